/** What needs a word more before it is answered: a no with its reason, a rule with its scope, a yes by a swipe. */
import { useState } from 'react';
import { Button } from '../ui/Button';
import { Dialog, DialogButtons } from '../ui/Dialog';
import { Choice, TextArea, TextField } from '../ui/Field';
import { baseName, oneLine } from '../ui/text';
import {
  isDangerous,
  matchWords,
  misses,
  subjectText,
  wants,
  wider,
  type Approval,
  type RuleMatch,
} from './asked';
import { Clipped } from './Clipped';
import type { Schemas } from '../api';

export type Answer = Schemas['AnswerParams'];
interface Asking {
  asked: Approval;
  onClose: () => void;
  onAnswer: (answer: Answer) => void;
}

function Subject({ asked }: { asked: Approval }) {
  return (
    <Clipped text={subjectText(asked.approval) ?? asked.approval.title} label="What is asked for" strong />
  );
}

export function Deny({ asked, onClose, onAnswer }: Asking) {
  const [text, setText] = useState('');
  const [scope, setScope] = useState<'once' | 'task' | 'project'>('once');
  const send = () => {
    onAnswer({
      verdict: 'deny',
      text: text.trim() === '' ? null : text.trim(),
      rule: scope === 'once' ? null : scope,
    });
  };
  return (
    <Dialog title={`Deny ${asked.name}`} onClose={onClose} wide>
      <Subject asked={asked} />
      <TextArea
        label="Why"
        about="The agent is told, and can go another way. May be empty."
        data-autofocus
        value={text}
        onChange={(event) => {
          setText(event.target.value);
        }}
        onKeyDown={(event) => {
          if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) send();
        }}
      />
      {asked.can_be_rule && (
        <Choice
          label="For how long"
          value={scope}
          onChange={setScope}
          options={[
            { value: 'once', label: 'This time' },
            { value: 'task', label: 'In this task' },
            { value: 'project', label: `In all tasks of ${baseName(asked.root)}` },
          ]}
        />
      )}
      <DialogButtons>
        <Button onClick={onClose}>Cancel</Button>
        <Button look="danger" keys="mod+enter" onClick={send}>
          Deny
        </Button>
      </DialogButtons>
    </Dialog>
  );
}

export function Say({ asked, onClose, onAnswer }: Asking) {
  const [text, setText] = useState('');
  const send = () => {
    if (text.trim() !== '') onAnswer({ verdict: 'allow', text: text.trim() });
  };
  return (
    <Dialog title={oneLine(asked.approval.title)} onClose={onClose} wide>
      <TextArea
        label="Your answer"
        data-autofocus
        value={text}
        onChange={(event) => {
          setText(event.target.value);
        }}
        onKeyDown={(event) => {
          if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) send();
        }}
      />
      <DialogButtons>
        <Button onClick={onClose}>Cancel</Button>
        <Button look="main" keys="mod+enter" disabled={text.trim() === ''} onClick={send}>
          Answer
        </Button>
      </DialogButtons>
    </Dialog>
  );
}

/** A yes that a thumb swiped: the whole of it is shown once more. There is no undo. */
export function Confirm({ asked, onClose, onAnswer }: Asking) {
  return (
    <Dialog
      title={`Allow ${oneLine(asked.agent ?? 'the task')} ${wants(asked.approval)}?`}
      onClose={onClose}
      wide
    >
      <Subject asked={asked} />
      {isDangerous(asked.approval) && (
        <p className="text-sm text-muted">It happens at once and cannot be taken back.</p>
      )}
      <DialogButtons>
        <Button onClick={onClose}>Cancel</Button>
        <Button
          look="main"
          data-autofocus
          onClick={() => {
            onAnswer({ verdict: 'allow' });
          }}
        >
          Allow once
        </Button>
      </DialogButtons>
    </Dialog>
  );
}

export function MakeRule({ asked, onClose, onAnswer }: Asking) {
  const { approval } = asked;
  const offer = wider(approval);
  const [scope, setScope] = useState<'task' | 'project'>('task');
  const [width, setWidth] = useState<'exactly' | 'wider'>('exactly');
  const [text, setText] = useState(offer?.text ?? '');
  const wrong = offer && width === 'wider' ? misses(approval, offer.is, text) : undefined;
  const project = baseName(asked.root);
  const matches = preview(approval, width === 'wider' ? offer?.is : undefined, text);
  const { words, text: what } = matchWords(matches);
  return (
    <Dialog title="Allow now and from now on" onClose={onClose} wide>
      <Choice
        label="Where"
        value={scope}
        onChange={setScope}
        options={[
          { value: 'task', label: 'In this task' },
          { value: 'project', label: `In all tasks of ${project}` },
        ]}
      />
      {offer && (
        <>
          <Choice
            label="What"
            value={width}
            onChange={setWidth}
            options={[
              { value: 'exactly', label: 'Exactly this' },
              {
                value: 'wider',
                label: offer.is === 'prefix' ? 'Commands that begin with…' : 'Files below…',
              },
            ]}
          />
          {width === 'wider' && (
            <TextField
              label={offer.is === 'prefix' ? 'First words' : 'Directory'}
              mono
              data-autofocus
              value={text}
              aria-invalid={wrong !== undefined}
              about={
                wrong ??
                (offer.is === 'prefix'
                  ? 'Commands of plain words only: no quotes, no ;, |, &, $. What the words mean is yours to judge.'
                  : 'Compared as text. A link inside may lead elsewhere inside, never out of the sandbox.')
              }
              onChange={(event) => {
                setText(event.target.value);
              }}
            />
          )}
        </>
      )}
      <div className="rounded-md bg-accent-soft px-3 py-2 text-sm">
        <p>
          {scope === 'task'
            ? 'From now on, in this task'
            : `From now on, in all tasks of ${project}, also new ones`}
          , allowed without being asked: {words}
        </p>
        <pre className="mt-1 max-h-40 overflow-auto font-mono break-words whitespace-pre-wrap">{what}</pre>
      </div>
      <DialogButtons>
        <Button onClick={onClose}>Cancel</Button>
        <Button
          look="main"
          disabled={wrong !== undefined}
          onClick={() => {
            onAnswer({
              verdict: 'allow',
              rule: scope,
              ...(width === 'wider' && offer && { [offer.is]: text.trim() }),
            });
          }}
        >
          Allow and make the rule
        </Button>
      </DialogButtons>
    </Dialog>
  );
}

/** The rule as the daemon would make it. */
function preview(
  approval: Approval['approval'],
  is: 'prefix' | 'below' | undefined,
  text: string,
): RuleMatch {
  const { subject } = approval;
  if (is === 'prefix') {
    return { type: 'command_prefix', words: text.split(' ').filter((word) => word !== '') };
  }
  if (is === 'below' && subject.type === 'files') {
    return { type: 'files_below', kind: subject.kind, directory: text.replace(/\/$/, '') };
  }
  if (subject.type === 'question' || subject.type === 'unclear') {
    return { type: 'command', command: approval.title };
  }
  return subject;
}
