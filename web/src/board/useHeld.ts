/** Holds the order of the board while somebody points at it or goes through it by keyboard. */
import { useEffect, useMemo, useRef, useState, type RefObject } from 'react';
import { hold, type Section } from './arrange';

/** A pointer that lies still for this long points at nothing. */
const STILL_MS = 4000;

export interface Held {
  sections: readonly Section[];
  /** Tasks that are not (any more) where they are shown. */
  waiting: number;
  /** Puts everything in its place now. */
  release: () => void;
}

export function useHeld(
  list: RefObject<HTMLElement | null>,
  next: readonly Section[],
  key: string,
  pinned: boolean,
): Held {
  const [active, setActive] = useState(false);
  const [shown, setShown] = useState({ key, sections: next });
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);

  useEffect(() => {
    const element = list.current;
    if (!element) return;
    const rest = () => {
      clearTimeout(timer.current);
      setActive(false);
    };
    const move = (event: Event) => {
      if (event instanceof KeyboardEvent && !element.contains(document.activeElement)) return;
      clearTimeout(timer.current);
      setActive(true);
      timer.current = setTimeout(rest, STILL_MS);
    };
    element.addEventListener('pointermove', move);
    element.addEventListener('pointerleave', rest);
    element.addEventListener('touchmove', move, { passive: true });
    addEventListener('keydown', move);
    return () => {
      clearTimeout(timer.current);
      element.removeEventListener('pointermove', move);
      element.removeEventListener('pointerleave', rest);
      element.removeEventListener('touchmove', move);
      removeEventListener('keydown', move);
    };
  }, [list]);

  const holding = (active || pinned) && shown.key === key && shown.sections.length > 0;
  const held = useMemo(
    () => (holding ? hold(shown.sections, next) : { sections: next, waiting: 0 }),
    [holding, shown, next],
  );
  // What is shown while nothing is held is what will be held.
  if (!holding && (shown.sections !== next || shown.key !== key)) setShown({ key, sections: next });
  return {
    ...held,
    release: () => {
      setShown({ key, sections: next });
    },
  };
}
