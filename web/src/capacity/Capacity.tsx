import { Empty } from '../ui/Empty';

export default function Capacity() {
  return <Empty title="Capacity is not here yet" />;
}
