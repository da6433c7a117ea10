import { Empty } from '../ui/Empty';

export default function Review() {
  return <Empty title="Review is not here yet" />;
}
