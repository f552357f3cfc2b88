-- gf_accept as it was (0006), but that it does not look into partitions for times to come: nothing has ended later than
-- now, save for what clocks differ by.
create or replace function gf_accept(
    ids uuid[], namespaces text[], queues text[], types text[], payloads bytea[], content_types text[], attempts int[],
    priorities smallint[], sweep bigint, first uuid, last uuid, since timestamptz
) returns boolean language plpgsql as $$
declare
    -- One look at a range is cheaper than one for each id, unless it finds many others.
    most  int := 4 * cardinality(ids);
    -- Not the start of the transaction: it may be the caller's, and old.
    upto  timestamptz := statement_timestamp() + interval '1 hour';
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
        select h.id from gf_history h
        where h.id between first and last and h.finished_at >= since and h.finished_at < upto
        limit most
    );
    if cardinality(ended) >= most then
        ended := array(
            select h.id from gf_history h
            where h.id = any(ids) and h.finished_at >= since and h.finished_at < upto
        );
    end if;
    if ended && ids then
        delete from gf_task t where t.id = any(ids);
        return false;
    end if;
    return true;
end $$;
