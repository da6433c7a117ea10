/**
 * A task's log as a person reads it: pieces of a message put together, news of one tool call or one approval in one
 * place, the rest a line each. Pure; `log.ts` feeds it, `rows.ts` chooses what is shown of it.
 *
 * Items are replaced, never changed, so who shows one need not draw it again if it is the same.
 */
import type { Entry, Schemas } from '../api';
import { note, type Tone } from './words';

export type ToolStatus = Schemas['ToolStatus'];

/** What the timeline can be filtered by. */
export type Kind =
  'run' | 'message' | 'thought' | 'tool' | 'approval' | 'check' | 'checkpoint' | 'environment' | 'result';

interface Base {
  /** Stays the same while older or newer entries come. */
  key: string;
  /** Of the first entry that it is made of. */
  seq: number;
  at: number;
  kind: Kind;
  /** The turn that it is part of. */
  turn: string | undefined;
}
export interface RunItem extends Base {
  is: 'run';
  number: number;
  prompt: string;
  model: string | undefined;
  check: string | undefined;
}
/** A turn begins; what is folded with it says `turn`. */
export interface TurnItem extends Base {
  is: 'turn';
  turn: string;
  prompt: string;
  /** Whether its prompt is what the run said already. */
  known: boolean;
  calls: number;
  failed: number;
  edits: number;
  end: number | undefined;
  /** Key of its last message, which is shown when it is folded. */
  last: string | undefined;
}
export interface MessageItem extends Base {
  is: 'message' | 'thought';
  text: string;
}
export interface ToolItem extends Base {
  is: 'tool';
  title: string;
  tool: Schemas['ToolKind'];
  status: ToolStatus;
  detail: string | undefined;
  change: string | undefined;
  /** When it was over, if that is known. */
  end: number | undefined;
}
export interface ApprovalItem extends Base {
  is: 'approval';
  asked: Schemas['ApprovalRequested'];
  answer: Schemas['ApprovalAnswered'] | undefined;
  withdrawn: string | undefined;
  settled: number | undefined;
}
export interface CheckItem extends Base {
  is: 'check';
  command: string;
  over: boolean;
  code: number | undefined;
  output: string;
  end: number | undefined;
}
export interface CheckpointItem extends Base {
  is: 'checkpoint';
  number: number;
  title: string;
  changed: number;
}
export interface NoteItem extends Base {
  is: 'note';
  tone: Tone;
  title: string;
  /** More to read: a log, an error. */
  detail: string | undefined;
}
export type Item =
  RunItem | TurnItem | MessageItem | ToolItem | ApprovalItem | CheckItem | CheckpointItem | NoteItem;

/** A message longer than this goes on as another one: some screens of text. */
const LONGEST = 64 << 10;

export class Fold {
  #items: Item[] = [];
  /** Where a tool call, an approval, a question, a turn or a check stands, by what it is called. */
  #places = new Map<string, number>();
  #turn: string | undefined;
  #prompt = '';
  readonly #seams: ReadonlySet<number>;

  /** `seams`: numbers of entries at which a page of the log began. What is put together over one keeps its key. */
  constructor(entries: readonly Entry[] = [], seams: ReadonlySet<number> = new Set()) {
    this.#seams = seams;
    for (const entry of entries) this.add(entry);
  }

  /** All items, in order. A new list whenever something was added. */
  get items(): readonly Item[] {
    return this.#items.slice();
  }

  add(entry: Entry): void {
    const { event, at, seq } = entry;
    const run = entry.run ?? '';
    const base = { key: String(seq), seq, at, turn: this.#turn };
    switch (event.type) {
      case 'run_queued':
        this.#turn = undefined;
        this.#prompt = event.prompt;
        this.#push({
          ...base,
          turn: undefined,
          is: 'run',
          kind: 'run',
          number: event.number,
          prompt: event.prompt,
          model: event.model ?? undefined,
          check: event.check ?? undefined,
        });
        return;
      case 'agent':
        this.#agent(entry, event.agent);
        return;
      case 'approval_requested':
        this.#push(
          {
            ...base,
            is: 'approval',
            kind: 'approval',
            asked: event,
            answer: undefined,
            withdrawn: undefined,
            settled: undefined,
          },
          `approval ${event.approval}`,
        );
        return;
      case 'approval_answered':
        this.#change(`approval ${event.approval}`, 'approval', (item) => ({
          ...item,
          answer: event,
          settled: at,
        }));
        return;
      case 'approval_withdrawn':
        this.#change(`approval ${event.approval}`, 'approval', (item) => ({
          ...item,
          withdrawn: event.reason,
          settled: at,
        }));
        return;
      case 'check_started':
        this.#push(
          {
            ...base,
            is: 'check',
            kind: 'check',
            command: event.command,
            over: false,
            code: undefined,
            output: '',
            end: undefined,
          },
          `check ${run}`,
        );
        return;
      case 'check_ended': {
        const news = { over: true, code: event.code ?? undefined, output: event.output, end: at };
        if (!this.#change(`check ${run}`, 'check', (item) => ({ ...item, ...news })))
          this.#push({ ...base, is: 'check', kind: 'check', command: '', ...news });
        return;
      }
      case 'checkpoint':
        this.#push({
          ...base,
          is: 'checkpoint',
          kind: 'checkpoint',
          number: event.number,
          title: event.title,
          changed: event.changed,
        });
        return;
      case 'run_ended':
        this.#turn = undefined;
        base.turn = undefined;
        break;
    }
    const said = note(event);
    if (said) this.#push({ ...base, is: 'note', ...said });
  }

  #agent({ seq, at, run }: Entry, event: Schemas['AgentEvent']): void {
    const of = run ?? '';
    const base = { key: String(seq), seq, at, turn: this.#turn };
    switch (event.type) {
      case 'turn_started': {
        const turn = `${of} ${seq}`;
        this.#turn = turn;
        const prompt = event.prompt.trim();
        const known = prompt === '' || this.#prompt.includes(prompt.replace(/…$/, '').slice(0, 200));
        this.#push(
          {
            ...base,
            turn,
            is: 'turn',
            kind: 'run',
            prompt,
            known,
            calls: 0,
            failed: 0,
            edits: 0,
            end: undefined,
            last: undefined,
          },
          `turn ${turn}`,
        );
        return;
      }
      case 'turn_ended':
        // Last words that the protocol tells apart, if they were not said before.
        if (event.reason === 'completed' && event.text != null && !this.#saidLast(event.text))
          this.#message(base, 'assistant', event.text);
        this.#turned({ end: at });
        this.#turn = undefined;
        break;
      case 'message':
        this.#message(base, event.role, event.text);
        return;
      case 'tool_call':
        this.#tool(base, `tool ${this.#turn ?? of} ${event.id}`, event);
        return;
      case 'asked':
        // The approval that it is says so.
        if (!event.waits)
          this.#push(
            {
              ...base,
              is: 'note',
              kind: 'approval',
              tone: 'plain',
              title: `asks: ${event.title}`,
              detail: event.detail ?? undefined,
            },
            `asked ${of} ${event.id}`,
          );
        return;
      case 'answered':
        this.#change(`asked ${of} ${event.id}`, 'note', (item) => ({
          ...item,
          title: `${item.title}; answered by ${event.by === 'policy' ? 'policy' : 'a person'}: ${event.option === '' ? 'nothing' : event.option}`,
        }));
        return;
    }
    const said = note({ type: 'agent', agent: event, offset: 0 });
    if (said) this.#push({ ...base, is: 'note', ...said });
  }

  #message(base: Omit<Base, 'kind'>, role: Schemas['Role'], text: string): void {
    const is = role === 'thought' ? 'thought' : 'message';
    const last = this.#items.at(-1);
    if (last?.is === is && last.turn === base.turn && last.text.length < LONGEST) {
      const key = this.#seams.has(base.seq) ? base.key : last.key;
      this.#items[this.#items.length - 1] = { ...last, key, text: last.text + text };
      if (is === 'message') this.#turned({ last: key });
      return;
    }
    if (text.trim() === '') return;
    this.#push({ ...base, is, kind: is, text });
    if (is === 'message') this.#turned({ last: base.key });
  }

  #saidLast(text: string): boolean {
    const last = this.#items.findLast((item) => item.is === 'message' && item.turn === this.#turn);
    return last?.is === 'message' && last.text.trim().endsWith(text.trim());
  }

  #tool(
    base: Omit<Base, 'kind'>,
    place: string,
    event: Extract<Schemas['AgentEvent'], { type: 'tool_call' }>,
  ): void {
    const over = event.status === 'completed' || event.status === 'failed';
    const { title, status } = event;
    const news = {
      title,
      tool: event.kind,
      status,
      detail: event.detail ?? undefined,
      change: event.change ?? undefined,
    };
    const known = this.#at(place, 'tool');
    const wasOver = known?.status === 'completed' || known?.status === 'failed';
    if (known)
      this.#change(place, 'tool', (item) => ({
        ...item,
        ...news,
        end: over ? (item.end ?? base.at) : undefined,
      }));
    else this.#push({ ...base, is: 'tool', kind: 'tool', ...news, end: undefined }, place);
    const turn = this.#at(`turn ${this.#turn ?? ''}`, 'turn');
    if (!turn) return;
    this.#turned({
      calls: turn.calls + (known ? 0 : 1),
      failed: turn.failed + (status === 'failed' && known?.status !== 'failed' ? 1 : 0),
      edits: turn.edits + (over && !wasOver && status === 'completed' && event.kind === 'edit' ? 1 : 0),
    });
  }

  #turned(news: Partial<TurnItem>): void {
    this.#change(`turn ${this.#turn ?? ''}`, 'turn', (item) => ({ ...item, ...news }));
  }

  #push(item: Item, place?: string): void {
    if (place !== undefined) this.#places.set(place, this.#items.length);
    this.#items.push(item);
  }

  #at<I extends Item['is']>(place: string, is: I): Extract<Item, { is: I }> | undefined {
    const index = this.#places.get(place);
    const item = index === undefined ? undefined : this.#items[index];
    return item?.is === is ? (item as Extract<Item, { is: I }>) : undefined;
  }

  #change<I extends Item['is']>(
    place: string,
    is: I,
    change: (item: Extract<Item, { is: I }>) => Extract<Item, { is: I }>,
  ): boolean {
    const index = this.#places.get(place);
    const item = this.#at(place, is);
    if (index === undefined || !item) return false;
    this.#items[index] = change(item);
    return true;
  }
}
