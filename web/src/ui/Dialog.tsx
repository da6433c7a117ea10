/**
 * A dialog: the browser's own, which holds the focus, makes the rest of the page inert and goes with Escape.
 * (Radix's would add a style element, which the page's policy forbids.) On a phone it is a sheet at the lower edge.
 */
import { useEffect, useId, useRef, type ReactNode } from 'react';

export function Dialog({
  title,
  onClose,
  children,
  wide = false,
  bare = false,
}: {
  title: string;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
  /** Without heading and padding: the title is for those who listen. */
  bare?: boolean;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    // The browser gives the focus to what comes first; often something else is meant.
    shown?.querySelector<HTMLElement>('[data-autofocus]')?.focus();
    return () => {
      shown?.close();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onPointerDown={(event) => {
        if (event.target === dialog.current) onClose();
      }}
      className={`fixed inset-x-0 m-0 mx-auto w-full bg-raised text-text shadow-raised outline-none md:top-[12vh] md:rounded-lg phone:top-auto phone:bottom-0 phone:max-w-full phone:rounded-t-lg phone:pb-[env(safe-area-inset-bottom)] ${wide ? 'md:max-w-2xl' : 'md:max-w-md'} max-h-[80vh] overflow-y-auto`}
    >
      <div className={bare ? '' : 'flex flex-col gap-4 p-5'}>
        <h2 id={heading} className={bare ? 'sr-only' : 'text-lg font-semibold'}>
          {title}
        </h2>
        {children}
      </div>
    </dialog>
  );
}

/** The buttons of a dialog, the main one last. */
export function DialogButtons({ children }: { children: ReactNode }) {
  return (
    <div className="flex flex-wrap justify-end gap-2 phone:flex-col-reverse phone:*:w-full">{children}</div>
  );
}
