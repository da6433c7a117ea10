import { Empty } from '../ui/Empty';

export default function Dispatch() {
  return <Empty title="Dispatch is not here yet" />;
}
