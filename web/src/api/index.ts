/** Map: `request` asks the daemon, `schema` is what it answers, made from `openapi/v1.json` by `npm run api`. */
import type { Schemas } from './request';

export { Problem, request } from './request';
export type { Schemas } from './request';

export type TaskView = Schemas['TaskView'];
export type TaskRecord = Schemas['TaskRecord'];
export type TaskState = Schemas['TaskState'];
export type RunRecord = Schemas['RunRecord'];
export type Entry = Schemas['Entry'];
