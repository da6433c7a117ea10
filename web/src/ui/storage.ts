/** Small things kept in this browser: drafts, which lanes are folded. Without storage they are forgotten. */
import { useState } from 'react';

export function remember(key: string, value: unknown): void {
  try {
    localStorage.setItem(`offshoot.${key}`, JSON.stringify(value));
  } catch {
    // Full or refused.
  }
}

export function forget(key: string): void {
  try {
    localStorage.removeItem(`offshoot.${key}`);
  } catch {
    // Refused.
  }
}

/** What was kept, if `fits` says it is still of the right shape. */
export function remembered<T>(key: string, fits: (value: unknown) => value is T): T | undefined {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(`offshoot.${key}`) ?? 'null');
    return fits(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** State that survives a reload. */
export function useRemembered<T>(
  key: string,
  initial: T,
  fits: (value: unknown) => value is T,
): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => remembered(key, fits) ?? initial);
  return [
    value,
    (next) => {
      setValue(next);
      remember(key, next);
    },
  ];
}
