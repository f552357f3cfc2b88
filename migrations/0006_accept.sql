-- Accepts tasks that ask for nothing unusual, in one round trip: makes their rows, which are due for a sweep after so many
-- microseconds, or, if that is zero, wait to be claimed. Makes none and gives false if one of them has ended: no error,
-- for that would be the end of the caller's transaction. `first` and `last` are the least and the greatest of the ids,
-- and nothing of them has ended before `since`.
create function gf_accept(
    ids uuid[], namespaces text[], queues text[], types text[], payloads bytea[], content_types text[], attempts int[],
    priorities smallint[], sweep bigint, first uuid, last uuid, since timestamptz
) returns boolean language plpgsql as $$
declare
    -- One look at a range is cheaper than one for each id, unless it finds many others.
    most  int := 4 * cardinality(ids);
    ended uuid[];
begin
    insert into gf_task (id, namespace, queue, type, payload, content_type, max_attempts, priority, attempt,
        attempt_limit, dispatch, waiting, state, due_at)
    select n.*, 1, n.max_attempts, 1 - (sweep = 0)::int, sweep = 0, 'queued', now() + sweep * interval '1 microsecond'
    from unnest(ids, namespaces, queues, types, payloads, content_types, attempts, priorities)
        as n (id, namespace, queue, type, payload, content_type, max_attempts, priority);

    -- A task that was accepted, ran and ended is not accepted again when its push is repeated. This comes last: one
    -- that was about to end had a row, which the insert waited for.
    ended := array(
        select h.id from gf_history h where h.id between first and last and h.finished_at >= since limit most
    );
    if cardinality(ended) >= most then
        ended := array(select h.id from gf_history h where h.id = any(ids) and h.finished_at >= since);
    end if;
    if ended && ids then
        delete from gf_task t where t.id = any(ids);
        return false;
    end if;
    return true;
end $$;
