/** A label with what it is for, and the control below. */
import { useId, type InputHTMLAttributes, type ReactNode, type TextareaHTMLAttributes } from 'react';

export const inputClass =
  'w-full rounded-md bg-surface px-2.5 py-1 touch:py-2.5 text-base phone:text-[1rem] ring-1 ring-inset ring-line placeholder:text-muted hover:ring-edge focus:outline-2 focus:outline-accent';

function Labelled({
  label,
  about,
  children,
}: {
  label: string;
  about?: ReactNode;
  children: (id: string) => ReactNode;
}) {
  const id = useId();
  return (
    <div className="flex min-w-0 flex-col gap-1">
      <label htmlFor={id} className="text-sm font-medium">
        {label}
      </label>
      {children(id)}
      {about !== undefined && (
        <p id={`${id}-about`} className="text-xs text-muted">
          {about}
        </p>
      )}
    </div>
  );
}

export function TextField({
  label,
  about,
  mono = false,
  ...rest
}: { label: string; about?: ReactNode; mono?: boolean } & InputHTMLAttributes<HTMLInputElement>) {
  return (
    <Labelled label={label} about={about}>
      {(id) => (
        <input
          id={id}
          aria-describedby={about === undefined ? undefined : `${id}-about`}
          autoComplete="off"
          spellCheck={false}
          {...rest}
          className={`${inputClass} ${mono ? 'font-mono text-sm' : ''}`}
        />
      )}
    </Labelled>
  );
}

export function TextArea({
  label,
  about,
  ...rest
}: { label: string; about?: ReactNode } & TextareaHTMLAttributes<HTMLTextAreaElement>) {
  return (
    <Labelled label={label} about={about}>
      {(id) => (
        <textarea
          id={id}
          aria-describedby={about === undefined ? undefined : `${id}-about`}
          {...rest}
          className={`${inputClass} field-sizing-content max-h-[50vh] min-h-24 py-2`}
        />
      )}
    </Labelled>
  );
}

/** One of a few, all visible. */
export function Choice<T extends string>({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: T;
  options: readonly { value: T; label: string; disabled?: boolean }[];
  onChange: (value: T) => void;
}) {
  return (
    <fieldset className="flex flex-col gap-1">
      <legend className="mb-1 text-sm font-medium">{label}</legend>
      <div className="flex flex-wrap gap-1">
        {options.map((option) => (
          <label
            key={option.value}
            className="flex h-7 cursor-pointer items-center gap-1.5 rounded-md px-2.5 text-sm ring-1 ring-line ring-inset hover:bg-hover has-checked:bg-chosen has-checked:ring-accent has-focus-visible:outline-2 has-focus-visible:outline-accent has-disabled:cursor-default has-disabled:text-muted touch:h-11 touch:px-4"
          >
            <input
              type="radio"
              className="sr-only"
              checked={option.value === value}
              disabled={option.disabled ?? false}
              onChange={() => {
                onChange(option.value);
              }}
            />
            {option.label}
          </label>
        ))}
      </div>
    </fieldset>
  );
}
