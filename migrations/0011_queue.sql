-- Who goes next: what a claim looks at lies in one narrow row a job (job_cursor), one a tenant (share), and one for each
-- tenant and priority that has work (lane). Wide job rows are not read by claims.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create table share (
    tenant_id int primary key references tenant,
    weight double precision not null default 1 constraint share_weight_positive check (weight > 0),
    usage double precision not null default 0,
    max_leased int constraint share_max_leased_range check (max_leased >= 0),
    max_gpu_ms bigint constraint share_max_gpu_ms_range check (max_gpu_ms >= 0),
    month date not null default '-infinity',
    month_gpu_ms double precision not null default 0
) with (fillfactor = 20);
alter table share enable row level security;
create policy own on share for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on share to nightshift_tenant;
comment on table share is 'What a tenant has had of the machines, and what it may have. Narrow, because every claim writes it.';
comment on column share.tenant_id is 'The tenant.';
comment on column share.weight is 'Its share relative to the others.';
comment on column share.usage is 'Engine seconds charged, each times charge_factor(when): comparing these compares decayed usage.';
comment on column share.max_leased is 'Hard cap of shards leased at a time; null: none.';
comment on column share.max_gpu_ms is 'Engine milliseconds it may use in a calendar month (UTC); null: any.';
comment on column share.month is 'First day of the month that month_gpu_ms counts.';
comment on column share.month_gpu_ms is 'Engine milliseconds charged in that month.';

create function open_share() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
begin
    insert into share (tenant_id) values (new.id) on conflict do nothing;
    return new;
end $$;
comment on function open_share() is 'Trigger: every tenant has a share.';
create trigger tenant_open_share after insert on tenant for each row execute function open_share();
insert into share (tenant_id) select id from tenant;

-- Usage halves in seven days. Old usage is not rewritten every second: new usage weighs more, which orders tenants in the
-- same way. A double holds this until 2045.
create function charge_factor(at timestamptz) returns double precision language sql immutable parallel safe as $$
    select 2 ^ (extract(epoch from at - timestamptz '2026-01-01 00:00Z')::double precision / 604800)
$$;
comment on function charge_factor(timestamptz) is 'Weight of usage at a time.';

create table lane (
    priority int not null,
    tenant_id int not null references tenant,
    primary key (priority, tenant_id)
) with (fillfactor = 50);
comment on table lane is 'Priorities at which a tenant has, or lately had, work to claim. A row too many costs a look; tick removes it.';
comment on column lane.priority is 'The priority.';
comment on column lane.tenant_id is 'The tenant.';

alter table worker
    add column labels text[] not null default '{}',
    add column memory_bytes bigint not null default 0,
    add column loaded text;
comment on column worker.labels is 'Its labels as "key=value".';
comment on column worker.memory_bytes is 'Memory of its device in bytes; 0: not said.';
comment on column worker.loaded is 'Model key of the last shard it claimed: most likely in its memory.';

alter table job
    add column worker_labels text[] not null default '{}',
    add column min_memory_bytes bigint not null default 0,
    add column max_gpu_ms bigint constraint job_max_gpu_ms_range check (max_gpu_ms >= 0),
    add column stop_at timestamptz,
    add column after bigint[] not null default '{}',
    add column time_window jsonb,
    add column opens_at timestamptz not null default '-infinity',
    add column closes_at timestamptz not null default 'infinity',
    add column backoff_ms int not null default 1000 constraint job_backoff_ms_range check (backoff_ms >= 0),
    add column max_backoff_ms int not null default 60000 constraint job_max_backoff_ms_range check (max_backoff_ms >= backoff_ms),
    add column jitter boolean not null default true;
comment on column job.worker_labels is 'Labels "key=value" that a worker must have.';
comment on column job.min_memory_bytes is 'Memory that a worker''s device must have, in bytes.';
comment on column job.max_gpu_ms is 'Engine milliseconds after which the job stops; null: any.';
comment on column job.stop_at is 'When the job stops, finished or not; null: never.';
comment on column job.after is 'Jobs that must have finished before it starts.';
comment on column job.time_window is 'schedule.window, days and when_window_closes of the spec; the scheduler computes opens_at and closes_at from it.';
comment on column job.opens_at is 'Begin of the current or next window.';
comment on column job.closes_at is 'End of that window. Nothing starts outside, also when no scheduler runs.';
comment on column job.backoff_ms is 'Pause after the first failed attempt of a shard, in milliseconds; it doubles.';
comment on column job.max_backoff_ms is 'Longest such pause.';
comment on column job.jitter is 'Whether a pause is drawn between nothing and its length.';

alter table shard
    add column gpu_ms bigint not null default 0,
    add column charged_ms bigint not null default 0,
    add column preempt boolean not null default false;
comment on column shard.gpu_ms is 'Engine milliseconds of its items so far.';
comment on column shard.charged_ms is 'Engine milliseconds that were charged to the tenant when it was claimed.';
comment on column shard.preempt is 'Its worker is asked to give it back: a job of higher priority waits.';

alter table job_cursor
    add column tenant_id int,
    add column priority int not null default 0,
    add column open boolean not null default false,
    add column limited boolean not null default false,
    add column started boolean not null default false,
    add column queued_at timestamptz not null default '-infinity',
    add column not_before timestamptz not null default '-infinity',
    add column opens_at timestamptz not null default '-infinity',
    add column closes_at timestamptz not null default 'infinity',
    add column n_items bigint not null default 0,
    add column shard_items int not null default 1,
    add column round int not null default 1,
    add column min_memory_bytes bigint not null default 0,
    add column gpu_ms bigint not null default 0,
    add column unsettled_ms bigint not null default 0,
    add column model_key text,
    add column fingerprint text,
    add column pins boolean not null default false,
    add column labels text[] not null default '{}';
drop policy own on job_cursor;
create policy own on job_cursor for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
create index job_cursor_open on job_cursor (priority, tenant_id, job_id) where open;
comment on column job_cursor.tenant_id is 'Tenant of the job. This and what follows is copied from the job by mark_job.';
comment on column job_cursor.priority is 'Priority of the job.';
comment on column job_cursor.open is 'Something can be claimed, now or at not_before.';
comment on column job_cursor.limited is 'Limits must be looked at whenever a shard ends.';
comment on column job_cursor.started is 'A shard was claimed before.';
comment on column job_cursor.queued_at is 'Since when it is open.';
comment on column job_cursor.not_before is 'Before this nothing can be claimed: all that is left backs off.';
comment on column job_cursor.opens_at is 'Begin of the job''s window.';
comment on column job_cursor.closes_at is 'End of the job''s window.';
comment on column job_cursor.n_items is 'Items of the job.';
comment on column job_cursor.shard_items is 'Items a shard.';
comment on column job_cursor.round is 'Round of the job.';
comment on column job_cursor.min_memory_bytes is 'Memory a worker must have, in bytes.';
comment on column job_cursor.gpu_ms is 'Engine milliseconds of shards that have ended.';
comment on column job_cursor.unsettled_ms is 'What those took beyond what was charged at claim; the next claim or tick settles it.';
comment on column job_cursor.model_key is 'Model a worker must have.';
comment on column job_cursor.fingerprint is 'Engine it is pinned to; null: any.';
comment on column job_cursor.pins is 'The next claim pins it.';
comment on column job_cursor.labels is 'Labels a worker must have.';

-- The caller holds the cursor. Level-triggered: copies what claims ask, and says whether there is something to claim.
create function mark_job(wanted bigint) returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    j record;
    c job_cursor;
    v_open boolean := false;
    v_not_before timestamptz := '-infinity';
begin
    select id, tenant_id, state, held, priority, n_items, shard_items, round, model_key, allow_mixed, worker_labels, min_memory_bytes, dest, inputs,
        after, opens_at, closes_at, started_at, max_failed_items is not null or max_gpu_ms is not null as limited,
        (select f.sha256 from fingerprint f where f.id = fingerprint_id) as fingerprint into j from job where id = wanted;
    select * into c from job_cursor where job_id = wanted;
    if j.state in ('ready', 'closing') and not j.held and not waits_for_jobs(j.after) and prefix_refusal(j.tenant_id, j.dest, j.inputs) is null then
        v_open := j.state = 'ready' and c.next_item < j.n_items;
        if not v_open then
            select min(ready_at) into v_not_before from shard where job_id = wanted and state = 'waiting';
            v_open := v_not_before is not null;
        end if;
    end if;
    update job_cursor set tenant_id = j.tenant_id, priority = j.priority, open = v_open, limited = j.limited, started = j.started_at is not null,
        queued_at = case when v_open and not c.open then clock() else c.queued_at end, not_before = coalesce(v_not_before, '-infinity'),
        opens_at = case when j.state = 'closing' then '-infinity' else j.opens_at end,
        closes_at = case when j.state = 'closing' then 'infinity' else j.closes_at end,
        n_items = coalesce(j.n_items, 0), shard_items = coalesce(j.shard_items, 1), round = j.round, min_memory_bytes = j.min_memory_bytes,
        model_key = j.model_key, fingerprint = case when not j.allow_mixed then j.fingerprint end,
        pins = not j.allow_mixed and j.fingerprint is null, labels = j.worker_labels
        where job_id = wanted;
    if v_open and not exists (select from lane where priority = j.priority and tenant_id = j.tenant_id) then
        insert into lane (priority, tenant_id) values (j.priority, j.tenant_id) on conflict do nothing;
    end if;
end $$;
comment on function mark_job(bigint) is 'Brings a job''s cursor up to date with the job.';

create function waits_for_jobs(after bigint[]) returns boolean language sql stable set search_path = nightshift, pg_temp as $$
    select $1 <> '{}' and exists (select from job where id = any ($1) and state not in ('finished', 'finished_with_errors'))
$$;
comment on function waits_for_jobs(bigint[]) is 'Whether one of these jobs has not finished.';

create function mark_changed_job() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
begin
    perform mark_job(new.id);
    return null;
end $$;
comment on function mark_changed_job() is 'Trigger: who changes a job holds its cursor, so it can be marked.';
create trigger job_mark after update of state, held, priority, opens_at, closes_at, after on job for each row
    when (old.state is distinct from new.state or old.held is distinct from new.held or old.priority is distinct from new.priority
        or old.opens_at is distinct from new.opens_at or old.closes_at is distinct from new.closes_at or old.after is distinct from new.after)
    execute function mark_changed_job();

-- A tenant's prefixes decide what may be claimed. Cursors are taken in the order of tick.
create function mark_changed_tenant() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job bigint;
begin
    for v_job in select id from job where tenant_id = new.id and state in ('ready', 'paused', 'closing', 'cancelling') order by id loop
        perform from job_cursor where job_id = v_job for update;
        perform mark_job(v_job);
    end loop;
    return null;
end $$;
comment on function mark_changed_tenant() is 'Trigger: allowed prefixes changed.';
create trigger tenant_mark after update of input_prefixes, dest_prefixes on tenant for each row execute function mark_changed_tenant();

do $$
declare
    v_job bigint;
begin
    for v_job in select id from job order by id loop
        perform mark_job(v_job);
    end loop;
end $$;

reset search_path;
reset role;
