/** Server-sent events out of pieces of text, as far as the daemon's stream uses them: `id`, `data`, comments. Pure. */

export interface Message {
  id: string;
  data: string;
}

/** Reads messages out of what arrives, piece by piece; a piece may end anywhere. */
export class Reader {
  #rest = '';

  feed(text: string): Message[] {
    const blocks = (this.#rest + text).split('\n\n');
    this.#rest = blocks.pop() ?? '';
    const messages: Message[] = [];
    for (const block of blocks) {
      let id = '';
      const data: string[] = [];
      for (const line of block.split('\n')) {
        if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
        else if (line.startsWith('id:')) id = line.slice(3).trim();
      }
      if (data.length > 0) messages.push({ id, data: data.join('\n') });
    }
    return messages;
  }
}
