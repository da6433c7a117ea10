/** Lines that were added and deleted; those that are none are not said. */
export function Lines({ of }: { of: { added: number; deleted: number } }) {
  return (
    <>
      {of.added > 0 && <span className="text-added">+{of.added}</span>}
      {of.added > 0 && of.deleted > 0 && ' '}
      {of.deleted > 0 && <span className="text-deleted">−{of.deleted}</span>}
    </>
  );
}
