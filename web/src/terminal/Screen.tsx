/** One terminal: xterm.js on a program's bytes. Loaded when it is first shown. */
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { useEffect, useEffectEvent, useRef, useState } from 'react';
import { Button } from '../ui/Button';
import { useTheme } from '../ui/theme';
import { oneLine } from '../ui/text';
import { Connection, type End } from './connection';
import { font, theme } from './look';
import { linked, pasted, silence, typed } from './quiet';
import { whileOpening } from './styles';

/** So many lines can be scrolled back to: what a test run says. */
const SCROLLBACK = 10_000;

/** Keys that a phone does not have. */
const extra: { title: string; plain: string; application?: string }[] = [
  { title: 'Esc', plain: '\u001b' },
  { title: 'Tab', plain: '\t' },
  { title: '↑', plain: '\u001b[A', application: '\u001bOA' },
  { title: '↓', plain: '\u001b[B', application: '\u001bOB' },
  { title: '←', plain: '\u001b[D', application: '\u001bOD' },
  { title: '→', plain: '\u001b[C', application: '\u001bOC' },
];

export interface ScreenProps {
  task: string;
  exec: string;
  title: string;
  shown: boolean;
  inSight: boolean;
  /** Whoever closes it asks for the program's end. */
  onReady: (connection: Connection | undefined) => void;
  onAgain: () => void;
}

export default function Screen({ task, exec, title, shown, inSight, onReady, onAgain }: ScreenProps) {
  const place = useRef<HTMLDivElement>(null);
  const terminal = useRef<Terminal>(null);
  const fit = useRef<FitAddon>(null);
  const link = useRef<Connection>(null);
  const [state, setState] = useState<'connecting' | 'open' | 'broken'>('connecting');
  const [end, setEnd] = useState<End>();
  const [address, setAddress] = useState<string>();
  const [ctrl, setCtrl] = useState(false);
  const chosen = useTheme();
  const ready = useEffectEvent(onReady);
  const isCtrl = useEffectEvent(() => {
    if (ctrl) setCtrl(false);
    return ctrl;
  });

  useEffect(() => {
    const at = place.current;
    if (!at) return;
    const screen = new Terminal({
      fontFamily: font,
      fontSize: at.clientWidth < 480 ? 12 : 13,
      lineHeight: 1.2,
      scrollback: SCROLLBACK,
      theme: theme(at),
      // What a program paints can be read, whatever it paints.
      minimumContrastRatio: 4.5,
      cursorBlink: false,
      macOptionIsMeta: true,
      linkHandler: {
        hover: (_, text) => {
          setAddress(linked(text));
        },
        leave: () => {
          setAddress(undefined);
        },
        activate: (_, text) => {
          const url = linked(text);
          if (url !== undefined) open(url, '_blank', 'noopener,noreferrer');
        },
      },
    });
    const fitting = new FitAddon();
    screen.loadAddon(fitting);
    silence(screen);
    whileOpening(() => {
      screen.open(at);
    });
    screen.textarea?.setAttribute('aria-label', `Terminal: ${title}`);
    fitting.fit();
    // Kept from xterm.js, which would let brackets of pasting through.
    const paste = (event: ClipboardEvent) => {
      event.preventDefault();
      event.stopPropagation();
      screen.paste(pasted(event.clipboardData?.getData('text/plain') ?? ''));
    };
    at.addEventListener('paste', paste, { capture: true });

    const connection = new Connection(task, exec, {
      output: (bytes, first) => {
        if (first) screen.reset();
        screen.write(bytes);
      },
      state: setState,
      end: setEnd,
    });
    typed(screen, (data) => {
      const control = typeof data === 'string' && /^[a-z@[\\\]^_ ]$/i.test(data) && isCtrl();
      connection.send(control ? String.fromCharCode(data.toUpperCase().charCodeAt(0) & 31) : data);
    });
    connection.resize({ rows: screen.rows, cols: screen.cols });
    screen.onResize(({ rows, cols }) => {
      connection.resize({ rows, cols });
    });
    // A terminal that is hidden has no size.
    const watch = new ResizeObserver(() => {
      if (at.clientWidth > 0 && at.clientHeight > 0) fitting.fit();
    });
    watch.observe(at);
    terminal.current = screen;
    fit.current = fitting;
    link.current = connection;
    ready(connection);
    return () => {
      ready(undefined);
      watch.disconnect();
      at.removeEventListener('paste', paste, { capture: true });
      connection.close();
      screen.dispose();
      terminal.current = null;
    };
  }, [task, exec, title]);

  useEffect(() => {
    const paint = () => {
      if (terminal.current && place.current) terminal.current.options.theme = theme(place.current);
    };
    paint();
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', paint);
    return () => {
      dark.removeEventListener('change', paint);
    };
  }, [chosen]);

  useEffect(() => {
    // It comes up a moment after it was asked for; what a person went on to meanwhile keeps the focus.
    const busy = document.activeElement?.closest('[role=menu], dialog, input, select') != null;
    if (shown && inSight && !busy) terminal.current?.focus();
  }, [shown, inSight]);

  const press = (key: (typeof extra)[number]) => {
    const at = terminal.current;
    if (!at) return;
    at.input(at.modes.applicationCursorKeysMode ? (key.application ?? key.plain) : key.plain);
    at.focus();
  };
  return (
    <div className={`absolute inset-0 flex flex-col bg-surface ${shown ? '' : 'invisible'}`}>
      <div className="relative min-h-0 grow">
        {/* Its keys are the program's, not the page's. */}
        <div ref={place} data-keys="own" data-terminal={exec} className="absolute inset-x-3 inset-y-2" />
        {address !== undefined && (
          <p className="absolute bottom-1 left-1 max-w-[90%] truncate rounded-md bg-raised px-2 py-1 font-mono text-xs shadow-raised">
            {oneLine(address)}
          </p>
        )}
      </div>
      <p role="status" className="border-t border-line px-3 py-1 text-sm text-muted empty:hidden">
        {end ? (
          <span className="flex items-center gap-3">
            {words(end)}
            <Button onClick={onAgain}>Start another</Button>
          </span>
        ) : state === 'broken' ? (
          'The daemon does not answer. The program goes on; this shows it again as soon as it can.'
        ) : null}
      </p>
      <div
        role="toolbar"
        aria-label="Keys"
        className="hidden gap-1 overflow-x-auto border-t border-line p-1 touch:flex phone:flex"
      >
        <Button
          aria-pressed={ctrl}
          className={ctrl ? 'bg-chosen ring-accent' : ''}
          onPointerDown={(event) => {
            event.preventDefault();
          }}
          onClick={() => {
            setCtrl(!ctrl);
            terminal.current?.focus();
          }}
        >
          Ctrl
        </Button>
        {extra.map((key) => (
          <Button
            key={key.title}
            aria-label={names[key.title] ?? key.title}
            // The keyboard of the phone stays where it is.
            onPointerDown={(event) => {
              event.preventDefault();
            }}
            onClick={() => {
              press(key);
            }}
          >
            {key.title}
          </Button>
        ))}
      </div>
    </div>
  );
}

const names: Record<string, string> = { '↑': 'Up', '↓': 'Down', '←': 'Left', '→': 'Right' };

function words(end: End): string {
  switch (end.type) {
    case 'exited':
      return end.code != null
        ? `It ended with ${end.code}.`
        : end.signal != null
          ? `Signal ${end.signal} ended it.`
          : 'It ended.';
    case 'gone':
      return `Its environment is gone: ${oneLine(end.reason)}.`;
    case 'unknown':
      return 'It is not there any more.';
  }
}
