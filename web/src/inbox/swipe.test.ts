import { expect, test } from 'vitest';
import { ended, moved, type Swipe } from './swipe';

function finger(...moves: [number, number][]): Swipe {
  return moves.reduce<Swipe>((swipe, [dx, dy]) => moved(swipe, dx, dy), { is: 'undecided' });
}

test('a finger that goes far to a side answers', () => {
  expect(ended(finger([12, 1], [60, 3], [120, 8]))).toBe('right');
  expect(ended(finger([-14, 2], [-110, 30]))).toBe('left');
});

test('a finger that comes back, or does not go far, says nothing', () => {
  expect(ended(finger([12, 1], [120, 3], [20, 3]))).toBeUndefined();
  expect(ended(finger([5, 1]))).toBeUndefined();
  expect(ended(finger([95, 0]))).toBeUndefined();
});

test('who scrolls does not swipe, wherever the finger goes then', () => {
  expect(finger([2, 12], [200, 40]).is).toBe('scroll');
  expect(ended(finger([9, 11], [200, 40]))).toBeUndefined();
  expect(finger([12, 9]).is).toBe('undecided');
});
