import { Empty } from '../ui/Empty';

export default function Board() {
  return <Empty title="Board is not here yet" />;
}
