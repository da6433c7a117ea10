/** Tells the daemon which task somebody looks at: about that one nothing is sent to them meanwhile. */
import { useEffect } from 'react';
import { request } from '../api';

/** The daemon believes it for 45 seconds. */
const AGAIN_MS = 20_000;
const client = `page-${Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('')}`;

export function usePresence(task: string): void {
  useEffect(() => {
    let said = false;
    const say = (what: string | null) => {
      said = what !== null;
      // Whether it is believed is not worth a word: the next one comes soon.
      request('post', '/v1/presence', { body: { client, task: what } }).catch(() => undefined);
    };
    const look = () => {
      if (document.visibilityState === 'visible' && document.hasFocus()) say(task);
      else if (said) say(null);
    };
    look();
    const timer = setInterval(look, AGAIN_MS);
    const events = ['focus', 'blur'] as const;
    for (const event of events) addEventListener(event, look);
    document.addEventListener('visibilitychange', look);
    return () => {
      clearInterval(timer);
      for (const event of events) removeEventListener(event, look);
      document.removeEventListener('visibilitychange', look);
      if (said) say(null);
    };
  }, [task]);
}
