-- What is finished: appended once, dropped by the partition.
--
-- A row's class is the number of days it is kept. Uniqueness of ids comes from the live row (or the lock on the
-- id), so no index here is unique.

create table gf_history (
    id                  uuid not null,
    finished_at         timestamptz not null,
    started_at          timestamptz,
    timeout_ms          bigint,
    worker              uuid,
    attempt             int not null,
    attempt_limit       int not null,
    dispatch            int not null,
    crashes             int not null,
    max_attempts        int not null,
    class               smallint not null,
    state               text not null,
    namespace           text not null,
    queue               text not null,
    type                text not null,
    content_type        text not null,
    result_content_type text,
    headers             jsonb,
    tags                jsonb,
    backoff             jsonb,
    start               jsonb,
    error               text,
    attempts            jsonb,
    payload             bytea not null,
    result              bytea
) partition by list (class);

comment on table gf_history is 'goflow: finished tasks. Use the view goflow_tasks to read them.';
comment on column gf_history.class is 'Days it is kept: 1, 7, 30 or 365.';
comment on column gf_history.attempts is 'Failed attempts, oldest first; null for none.';

create index gf_history_id on gf_history (id);
create index gf_history_state on gf_history (state, id);
create index gf_history_type on gf_history (type, id);
create index gf_history_queue on gf_history (queue, id);
create index gf_history_tags on gf_history using gin (tags jsonb_path_ops) where tags is not null;

create table gf_history_1d partition of gf_history for values in (1) partition by range (finished_at);
create table gf_history_7d partition of gf_history for values in (7) partition by range (finished_at);
create table gf_history_30d partition of gf_history for values in (30) partition by range (finished_at);
create table gf_history_365d partition of gf_history for values in (365) partition by range (finished_at);

-- For what no partition was made for: nothing is lost when nobody looked after partitions for a while.
create table gf_history_1d_strays partition of gf_history_1d default;
create table gf_history_7d_strays partition of gf_history_7d default;
create table gf_history_30d_strays partition of gf_history_30d default;
create table gf_history_365d_strays partition of gf_history_365d default;

-- How many days one partition of a class holds: few partitions, and not much kept too long.
create function gf_partition_days(class int) returns int
    language sql immutable
    return case class when 365 then 30 when 30 then 5 else 1 end;

-- Makes the partitions of a class for yesterday (clocks differ), today and the three to follow; gives their number.
create function gf_make_partitions(class int) returns int
    language plpgsql
as $$
declare
    parent text := format('gf_history_%sd', class);
    strays text := format('gf_history_%sd_strays', class);
    width  int := 86400 * gf_partition_days(class);
    first  bigint := floor((extract(epoch from now()) - 86400) / width);
    last   bigint := floor(extract(epoch from now()) / width) + 3;
    made   int := 0;
    name   text;
    since  timestamptz;
    until  timestamptz;
begin
    for period in first..last loop
        since := to_timestamp(period * width);
        until := to_timestamp((period + 1) * width);
        name := format('%s_%s', parent, to_char(since at time zone 'UTC', 'YYYYMMDD'));
        continue when to_regclass(name) is not null;
        -- Of several engines one makes it; the others find it.
        perform pg_advisory_xact_lock(hashtextextended('gf_history partitions', 0));
        continue when to_regclass(name) is not null;
        -- Attaching needs the strays of its range out of the way, and no new ones meanwhile. It locks the parent
        -- less than creating the partition in place would.
        execute format('create table %I (like gf_history including defaults including storage)', name);
        execute format('lock table %I in access exclusive mode', strays);
        execute format(
            'with strays as (delete from %I where finished_at >= %L and finished_at < %L returning *) '
            'insert into %I select * from strays', strays, since, until, name);
        execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, name, since, until);
        made := made + 1;
    end loop;
    return made;
end
$$;

-- Drops the partitions that hold only what is past its days, and strays that are; gives their number.
create function gf_drop_partitions() returns int
    language plpgsql
as $$
declare
    old     record;
    dropped int := 0;
begin
    for old in
        select parent.relname as parent, child.relname as child, c.days
        from (values (1), (7), (30), (365)) as c (days)
        join pg_class parent on parent.oid = to_regclass(format('gf_history_%sd', c.days))
        join pg_inherits i on i.inhparent = parent.oid
        join pg_class child on child.oid = i.inhrelid
        where child.relname ~ '_[0-9]{8}$'
          and to_date(right(child.relname, 8), 'YYYYMMDD') + gf_partition_days(c.days) + c.days
              <= (now() at time zone 'UTC')::date
    loop
        perform pg_advisory_xact_lock(hashtextextended('gf_history partitions', 0));
        continue when to_regclass(old.child) is null;
        execute format('alter table %I detach partition %I', old.parent, old.child);
        execute format('drop table %I', old.child);
        dropped := dropped + 1;
    end loop;
    delete from gf_history_1d_strays where finished_at < now() - interval '1 day';
    delete from gf_history_7d_strays where finished_at < now() - interval '7 days';
    delete from gf_history_30d_strays where finished_at < now() - interval '30 days';
    delete from gf_history_365d_strays where finished_at < now() - interval '365 days';
    return dropped;
end
$$;

select gf_make_partitions(7), gf_make_partitions(30);
