/**
 * The map of pages. Each is loaded when it is first shown. Who adds a page adds it here; a page that is not filled yet
 * is not linked (see `filled`).
 */
import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent as lazy,
  Outlet,
  type ErrorComponentProps,
} from '@tanstack/react-router';
import { Shell } from './shell/Shell';
import { Empty } from './ui/Empty';
import { ProblemBox } from './ui/ProblemBox';

/** Pages that have a place and, if `true`, something in it. */
export const filled: Record<'review' | 'qa' | 'approvals', boolean> = {
  review: true,
  qa: true,
  approvals: true,
};

const root = createRootRoute({
  component: Outlet,
  notFoundComponent: () => <Empty title="There is no such page" />,
  errorComponent: ({ error }: ErrorComponentProps) => (
    <div className="p-4">
      <ProblemBox error={error} />
    </div>
  ),
});

const login = createRoute({
  getParentRoute: () => root,
  path: '/login',
  component: lazy(() => import('./shell/Login')),
});

const shell = createRoute({ getParentRoute: () => root, id: 'shell', component: Shell });

export interface BoardSearch {
  /** What the tasks are filtered by. */
  q?: string;
  group?: 'project';
}

const board = createRoute({
  getParentRoute: () => shell,
  path: '/',
  component: lazy(() => import('./board/Board')),
  validateSearch: (search: Record<string, unknown>): BoardSearch => ({
    ...(typeof search['q'] === 'string' && search['q'] !== '' && { q: search['q'] }),
    ...(search['group'] === 'project' && { group: 'project' }),
  }),
});
const dispatch = createRoute({
  getParentRoute: () => shell,
  path: '/new',
  component: lazy(() => import('./dispatch/Dispatch')),
});
const approvals = createRoute({
  getParentRoute: () => shell,
  path: '/approvals',
  component: lazy(() => import('./inbox/Inbox')),
  validateSearch: (search: Record<string, unknown>): { show?: 'history' | 'rules' } =>
    search['show'] === 'history' || search['show'] === 'rules' ? { show: search['show'] } : {},
});
const capacity = createRoute({
  getParentRoute: () => shell,
  path: '/capacity',
  component: lazy(() => import('./capacity/Capacity')),
});
const settings = createRoute({
  getParentRoute: () => shell,
  path: '/settings',
  component: lazy(() => import('./settings/Settings')),
});

const task = createRoute({
  getParentRoute: () => shell,
  path: '/tasks/$task',
  component: lazy(() => import('./task/Frame')),
});
const timeline = createRoute({
  getParentRoute: () => task,
  path: '/',
  component: lazy(() => import('./task/Timeline')),
});
const review = createRoute({
  getParentRoute: () => task,
  path: '/review',
  component: lazy(() => import('./review/Review')),
});
const qa = createRoute({
  getParentRoute: () => task,
  path: '/qa',
  component: lazy(() => import('./terminal/Qa')),
});

export const router = createRouter({
  routeTree: root.addChildren([
    login,
    shell.addChildren([
      board,
      dispatch,
      approvals,
      capacity,
      settings,
      task.addChildren([timeline, review, qa]),
    ]),
  ]),
  defaultPreload: 'intent',
  scrollRestoration: true,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
