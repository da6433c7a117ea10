/** What stands around every page: where one can go, whether what is shown is true, and what one can do by keyboard. */
import { Link, Outlet, useNavigate } from '@tanstack/react-router';
import { lazy, Suspense, useEffect, useState } from 'react';
import { useConnection, useTasks, useWaiting } from '../live';
import { filled } from '../routes';
import { ActionDialogs } from '../task/actions';
import { buttonClass } from '../ui/Button';
import { onKeyDown, useCommands } from '../ui/commands';
import { Keys } from '../ui/Keys';
import { setTheme } from '../ui/theme';
import { Toasts } from '../ui/toasts';
import { ConnectionState } from './ConnectionState';
import { SignedOut } from './SignedOut';

const loadPalette = () => import('../ui/Palette');
const Palette = lazy(loadPalette);
const Help = lazy(() => import('../ui/Help'));

export function Shell() {
  const [open, setOpen] = useState<'palette' | 'help'>();
  const connection = useConnection();
  const navigate = useNavigate();

  useEffect(() => {
    addEventListener('keydown', onKeyDown);
    // So that what is typed right after its key is not lost.
    const timer = setTimeout(() => void loadPalette(), 1000);
    return () => {
      clearTimeout(timer);
      removeEventListener('keydown', onKeyDown);
    };
  }, []);
  useTitle();

  useCommands([
    { title: 'Board', group: 'Go to', keys: 'g b', run: () => void navigate({ to: '/' }) },
    { title: 'New task', group: 'Go to', keys: 'c', run: () => void navigate({ to: '/new' }) },
    ...(filled.approvals
      ? [{ title: 'Approvals', group: 'Go to', keys: 'g a', run: () => void navigate({ to: '/approvals' }) }]
      : []),
    { title: 'Capacity', group: 'Go to', keys: 'g c', run: () => void navigate({ to: '/capacity' }) },
    { title: 'Settings', group: 'Go to', keys: 'g s', run: () => void navigate({ to: '/settings' }) },
    {
      title: 'Find a task or a command',
      group: 'Everywhere',
      keys: 'mod+k',
      keyOnly: true,
      run: () => {
        setOpen((shown) => (shown === 'palette' ? undefined : 'palette'));
      },
    },
    {
      title: 'Keyboard help',
      group: 'Everywhere',
      keys: '?',
      run: () => {
        setOpen('help');
      },
    },
    {
      title: 'Light theme',
      group: 'Appearance',
      run: () => {
        setTheme('light');
      },
    },
    {
      title: 'Dark theme',
      group: 'Appearance',
      run: () => {
        setTheme('dark');
      },
    },
    {
      title: 'Theme of the system',
      group: 'Appearance',
      run: () => {
        setTheme('system');
      },
    },
  ]);

  if (connection.is === 'signed_out') return <SignedOut />;
  const close = () => {
    setOpen(undefined);
  };
  return (
    <div className="flex h-full flex-col">
      <a
        href="#main"
        className="sr-only focus:not-sr-only focus:absolute focus:z-50 focus:bg-raised focus:p-2"
      >
        Skip to content
      </a>
      <header className="z-20 flex h-11 shrink-0 items-center gap-1 border-b border-line bg-surface px-3 md:px-4">
        <Link to="/" className="mr-3 flex items-center gap-1.5 font-semibold tracking-tight">
          <Mark />
          Offshoot
        </Link>
        <nav aria-label="Pages" className="flex items-center gap-0.5 phone:hidden">
          <Places />
        </nav>
        <div className="grow" />
        <ConnectionState />
        <button
          type="button"
          onClick={() => {
            setOpen('palette');
          }}
          aria-label="Find a task or a command"
          className={`${buttonClass('quiet')} phone:px-3`}
        >
          <svg viewBox="0 0 16 16" aria-hidden className="size-3.5">
            <path
              d="M10.5 10.5 14 14M11.5 7a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0z"
              fill="none"
              stroke="currentColor"
              strokeWidth="1.5"
              strokeLinecap="round"
            />
          </svg>
          <span className="phone:hidden">Find</span>
          <Keys keys="mod+k" />
        </button>
        <Link
          to="/settings"
          aria-label="Settings"
          title="Settings"
          className={`${buttonClass('quiet')} phone:px-3`}
        >
          <svg
            viewBox="0 0 16 16"
            aria-hidden
            className="size-3.5"
            fill="none"
            stroke="currentColor"
            strokeWidth="1.5"
            strokeLinecap="round"
          >
            <path d="M2 4.5h6.5m3.5 0h2M2 11.5h2m3.5 0H14" />
            <circle cx="10.25" cy="4.5" r="1.75" />
            <circle cx="5.75" cy="11.5" r="1.75" />
          </svg>
        </Link>
        <Link to="/new" className={`${buttonClass('main')} phone:hidden`}>
          New task
          <Keys keys="c" />
        </Link>
      </header>
      <main id="main" tabIndex={-1} className="min-h-0 grow overflow-y-auto outline-none" data-scroll>
        <Outlet />
      </main>
      <nav
        aria-label="Pages"
        className="z-20 flex shrink-0 items-stretch justify-around border-t border-line bg-surface pb-[env(safe-area-inset-bottom)] md:hidden"
      >
        <Places tall />
        <Link
          to="/new"
          className="flex h-13 grow items-center justify-center text-sm font-medium text-accent"
        >
          New task
        </Link>
      </nav>
      <Toasts />
      <ActionDialogs />
      <Suspense>
        {open === 'palette' && <Palette onClose={close} />}
        {open === 'help' && <Help onClose={close} />}
      </Suspense>
    </div>
  );
}

function Places({ tall = false }: { tall?: boolean }) {
  const waiting = useWaiting();
  const className = tall
    ? 'relative flex h-13 grow items-center justify-center gap-1 text-sm text-muted aria-[current=page]:text-text aria-[current=page]:font-medium aria-[current=page]:shadow-[inset_0_2px_var(--color-accent)]'
    : 'flex h-7 items-center gap-1.5 rounded-md px-2.5 text-sm text-muted hover:bg-hover hover:text-text aria-[current=page]:text-text aria-[current=page]:font-medium';
  return (
    <>
      <Link to="/" className={className} activeOptions={{ exact: true, includeSearch: false }}>
        Board
      </Link>
      {filled.approvals && (
        <Link to="/approvals" className={className}>
          Approvals
          {waiting > 0 && (
            <span className="min-w-4.5 rounded-full bg-accent px-1 text-center text-xs leading-4.5 font-medium text-on-accent">
              {waiting}
              <span className="sr-only"> waiting</span>
            </span>
          )}
        </Link>
      )}
      <Link to="/capacity" className={className}>
        Capacity
      </Link>
    </>
  );
}

function Mark() {
  return (
    <svg
      viewBox="0 0 32 32"
      aria-hidden
      className="size-4.5 text-accent"
      fill="none"
      stroke="currentColor"
      strokeWidth="3.2"
      strokeLinecap="round"
      strokeLinejoin="round"
    >
      <path d="M10 28V4" />
      <path d="M10 20c8 0 12-3 12-11" />
      <circle cx="22" cy="6" r="3" fill="currentColor" />
    </svg>
  );
}

/** The tab says how many tasks wait for a person, and its icon that any does. */
function useTitle() {
  const needs = useTasks()?.filter(({ task }) => task.state === 'needs_attention').length ?? 0;
  useEffect(() => {
    document.title = needs > 0 ? `(${needs}) Offshoot` : 'Offshoot';
  }, [needs]);
  const waits = needs > 0;
  useEffect(() => {
    const icon = document.querySelector<HTMLLinkElement>('link[rel=icon]');
    if (icon) icon.href = waits ? '/icon-waits.svg' : '/icon.svg';
  }, [waits]);
}
