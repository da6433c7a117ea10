/** Lines that go and come, with the path that they are in. */
import { useState } from 'react';
import { buttonClass } from '../ui/Button';
import { count } from '../ui/figures';
import { safe } from '../ui/text';
import { marks, type Mark } from './lines';

const looks: Record<Mark, string> = {
  path: 'text-muted border-line not-first:border-t not-first:mt-1.5 pt-1 pb-0.5',
  place: 'text-muted',
  gone: 'bg-deleted-soft',
  come: 'bg-added-soft',
  same: '',
  aside: 'hidden',
};
const signs: Record<Mark, string> = { path: '', place: '', gone: '−', come: '+', same: ' ', aside: '' };

/** `path`: what whoever shows it said already; it is not said again. */
export function Change({ text, most = 14, path }: { text: string; most?: number; path?: string }) {
  const [all, setAll] = useState(false);
  const lines = marks(text).filter(
    ({ mark, text }) => mark !== 'aside' && (mark !== 'path' || path === undefined || !text.endsWith(path)),
  );
  const shown = all ? lines : lines.slice(0, most);
  const more = lines.length - shown.length;
  return (
    <div className="overflow-hidden rounded-md bg-surface ring-1 ring-line ring-inset">
      <div
        tabIndex={0}
        role="group"
        aria-label="Change"
        className="max-h-[60vh] overflow-auto py-1 font-mono text-xs leading-5"
      >
        <div className="w-max min-w-full">
          {shown.map(({ mark, text }, index) => (
            <div key={index} className={`flex px-2 whitespace-pre ${looks[mark]}`}>
              {mark === 'path' || mark === 'place' ? (
                <span>{safe(text)}</span>
              ) : (
                <>
                  <span
                    className={`w-4 shrink-0 select-none ${mark === 'come' ? 'text-added' : mark === 'gone' ? 'text-deleted' : ''}`}
                  >
                    {signs[mark]}
                  </span>
                  <span>{safe(text)}</span>
                </>
              )}
            </div>
          ))}
        </div>
      </div>
      {more > 0 && (
        <button
          type="button"
          className={`${buttonClass('quiet')} w-full rounded-none border-t border-line`}
          onClick={() => {
            setAll(true);
          }}
        >
          {count(more, 'more line')}
        </button>
      )}
    </div>
  );
}
