import { expect, test } from 'vitest';
import { Reader } from './sse';

const stream = 'id: 7\ndata: {"a":1}\n\n: still here\n\nid:8\ndata: one\ndata: two\n\nid: 9\ndata: cut';

test('messages are the same however the stream is cut', () => {
  const whole = new Reader().feed(stream);
  expect(whole).toEqual([
    { id: '7', data: '{"a":1}' },
    { id: '8', data: 'one\ntwo' },
  ]);
  for (let at = 0; at < stream.length; at += 1) {
    const reader = new Reader();
    expect([...reader.feed(stream.slice(0, at)), ...reader.feed(stream.slice(at))]).toEqual(whole);
  }
});
