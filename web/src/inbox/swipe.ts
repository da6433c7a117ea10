/**
 * Swiping a card aside: right is yes, left is no. The thumb decides the direction first: who scrolls does not swipe,
 * and a swipe counts only beyond `FAR`, when the finger is lifted there.
 */
import { useRef, useState, type PointerEvent } from 'react';

/** The finger has decided after this way, in pixels. */
const DECIDED = 10;
/** A swipe counts from here on. */
export const FAR = 96;

export type Swipe = { is: 'undecided' } | { is: 'scroll' } | { is: 'swipe'; dx: number };

/** What a move of the finger means, given what it meant before. */
export function moved(before: Swipe, dx: number, dy: number): Swipe {
  if (before.is === 'scroll') return before;
  if (before.is === 'swipe') return { is: 'swipe', dx };
  if (Math.abs(dy) > DECIDED && Math.abs(dy) >= Math.abs(dx)) return { is: 'scroll' };
  if (Math.abs(dx) > DECIDED && Math.abs(dx) > 1.5 * Math.abs(dy)) return { is: 'swipe', dx };
  return before;
}

/** What the end of it means. */
export function ended(swipe: Swipe): 'right' | 'left' | undefined {
  if (swipe.is !== 'swipe' || Math.abs(swipe.dx) < FAR) return undefined;
  return swipe.dx > 0 ? 'right' : 'left';
}

/** For touch only: a mouse selects text. */
export function useSwipe(onSwipe: (direction: 'right' | 'left') => void, enabled: boolean) {
  const start = useRef<{ x: number; y: number; id: number } | undefined>(undefined);
  const [swipe, setSwipe] = useState<Swipe>({ is: 'undecided' });
  const over = () => {
    start.current = undefined;
    setSwipe({ is: 'undecided' });
  };
  return {
    dx: swipe.is === 'swipe' ? swipe.dx : 0,
    handlers: {
      onPointerDown: (event: PointerEvent) => {
        if (!enabled || event.pointerType === 'mouse' || !event.isPrimary) return;
        start.current = { x: event.clientX, y: event.clientY, id: event.pointerId };
      },
      onPointerMove: (event: PointerEvent) => {
        const from = start.current;
        if (from?.id !== event.pointerId) return;
        const next = moved(swipe, event.clientX - from.x, event.clientY - from.y);
        if (next.is === 'swipe' && swipe.is !== 'swipe')
          event.currentTarget.setPointerCapture(event.pointerId);
        if (next !== swipe) setSwipe(next);
      },
      onPointerUp: (event: PointerEvent) => {
        if (start.current?.id !== event.pointerId) return;
        const direction = ended(swipe);
        over();
        if (direction) onSwipe(direction);
      },
      onPointerCancel: over,
    },
  };
}
