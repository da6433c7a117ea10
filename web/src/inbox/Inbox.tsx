import { Empty } from '../ui/Empty';

export default function Inbox() {
  return <Empty title="Approvals is not here yet" />;
}
