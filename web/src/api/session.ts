/** Signing in: a one-time code for a cookie that scripts cannot read. */
import { problemOf, unreachable } from './request';

export async function signIn(code: string): Promise<void> {
  let answer: Response;
  try {
    answer = await fetch('/v1/session', {
      method: 'POST',
      credentials: 'same-origin',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ code }),
    });
  } catch {
    throw unreachable();
  }
  if (!answer.ok) throw await problemOf(answer);
}
