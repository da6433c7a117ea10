import { Empty } from '../ui/Empty';

export default function Qa() {
  return <Empty title="QA is not here yet" />;
}
