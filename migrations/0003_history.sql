-- Tables that only grow: attempts, their logs, items, events; the leader; row-level security.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create table attempt (
    job_id bigint not null,
    shard_no int not null,
    attempt int not null,
    tenant_id int not null,
    round int not null,
    token bigint not null,
    worker_id bigint not null,
    started_at timestamptz not null,
    ended_at timestamptz,
    outcome attempt_outcome,
    code text,
    message text,
    primary key (job_id, shard_no, attempt),
    constraint attempt_end_fits_outcome check ((ended_at is null) = (outcome is null)),
    constraint attempt_code_fits_outcome check ((code is not null) = (outcome is not null and outcome in ('failed', 'lost')))
) with (fillfactor = 70);
comment on table attempt is 'One lease of a shard.';
comment on column attempt.job_id is 'The job.';
comment on column attempt.shard_no is 'The shard.';
comment on column attempt.attempt is 'Number within the shard, from 1.';
comment on column attempt.tenant_id is 'Tenant of the job.';
comment on column attempt.round is 'Round of the job.';
comment on column attempt.token is 'Token of the lease.';
comment on column attempt.worker_id is 'Who had it.';
comment on column attempt.started_at is 'When it was claimed.';
comment on column attempt.ended_at is 'When it ended.';
comment on column attempt.outcome is 'How it ended: released and cancelled cost nothing, failed and lost are counted apart.';
comment on column attempt.code is 'Stable error code of a failed or lost attempt.';
comment on column attempt.message is 'The error in words.';

create table attempt_log (
    id bigint generated always as identity,
    job_id bigint not null,
    shard_no int not null,
    attempt int not null,
    tenant_id int not null,
    at timestamptz not null default clock(),
    text text not null,
    primary key (job_id, id)
);
create index attempt_log_attempt on attempt_log (job_id, shard_no, attempt, id);
comment on table attempt_log is 'Log lines of attempts; rows are only inserted.';
comment on column attempt_log.id is 'Grows with time.';
comment on column attempt_log.job_id is 'The job.';
comment on column attempt_log.shard_no is 'The shard.';
comment on column attempt_log.attempt is 'The attempt.';
comment on column attempt_log.tenant_id is 'Tenant of the job.';
comment on column attempt_log.at is 'When the database got it.';
comment on column attempt_log.text is 'Lines of one progress call.';

-- Ordered so that no byte is lost to alignment: ten million of these must fit.
create table item (
    job_id bigint not null,
    index bigint not null,
    finished_at timestamptz not null,
    seed bigint,
    tenant_id int not null,
    shard_no int not null,
    status item_status not null,
    gpu_ms int,
    tokens int,
    steps int,
    attempt smallint not null,
    fingerprint_id smallint,
    item_id bytea,
    artifacts artifact[],
    error_code text,
    error_message text,
    info jsonb,
    primary key (job_id, index),
    constraint item_ok_whole check (status <> 'ok' or (item_id is not null and fingerprint_id is not null and artifacts is not null)),
    constraint item_error_fits_status check ((error_code is null) = (status = 'ok')),
    constraint item_no_object_unless_ok check (status = 'ok' or artifacts is null)
);
comment on table item is 'One row per finished item. A row ok implies that its objects exist with these sizes and sha256.';
comment on column item.job_id is 'The job.';
comment on column item.index is 'Index within the job.';
comment on column item.finished_at is 'When it was recorded.';
comment on column item.seed is 'Seed, 0 to 2^63-1; null when it never got one.';
comment on column item.tenant_id is 'Tenant of the job.';
comment on column item.shard_no is 'The shard.';
comment on column item.status is 'ok, failed or skipped.';
comment on column item.gpu_ms is 'Engine time in milliseconds.';
comment on column item.tokens is 'Tokens generated.';
comment on column item.steps is 'Forward passes used.';
comment on column item.attempt is 'Attempt that reported it; 0 when the store failed it because the shard ran out of attempts.';
comment on column item.fingerprint_id is 'Engine that made it.';
comment on column item.item_id is 'Id of the item.';
comment on column item.artifacts is 'Its objects, the primary file first; null unless ok.';
comment on column item.error_code is 'Stable code; null when ok.';
comment on column item.error_message is 'The error in words.';
comment on column item.info is 'What else is worth keeping: facts of the given picture, crop box.';

create table event (
    id bigint generated always as identity,
    at timestamptz not null default clock(),
    tenant_id int not null,
    job_id bigint not null,
    shard_no int,
    worker_id bigint,
    what text not null,
    message text not null,
    primary key (id, at)
) partition by range (at);
create table event_rest partition of event default;
create index event_job on event (job_id, id);
comment on table event is 'What happened to jobs. Partitioned by time: partitions are dropped, rows are never deleted.';
comment on column event.id is 'Grows with time.';
comment on column event.at is 'When.';
comment on column event.tenant_id is 'Tenant of the job.';
comment on column event.job_id is 'The job.';
comment on column event.shard_no is 'The shard, if it concerns one.';
comment on column event.worker_id is 'The worker, if it concerns one.';
comment on column event.what is 'Stable word: submitted, ready, lease_lost, ...';
comment on column event.message is 'One sentence.';
comment on table event_rest is 'Events outside of the other partitions.';
do $$
declare
    c record;
begin
    for c in select attname, col_description('event'::regclass, attnum) as words from pg_attribute
        where attrelid = 'event'::regclass and attnum > 0 loop
        execute format('comment on column event_rest.%I is %L', c.attname, c.words);
    end loop;
end $$;

create table leader (
    only_row boolean primary key default true constraint leader_only_row check (only_row),
    term bigint not null,
    holder text not null,
    login name not null,
    leads_until timestamptz not null
) with (fillfactor = 50);
comment on table leader is 'Which scheduler leads: one row.';
comment on column leader.only_row is 'True.';
comment on column leader.term is 'Grows with every change of leader.';
comment on column leader.holder is 'Name of the leading process.';
comment on column leader.login is 'Its session_user.';
comment on column leader.leads_until is 'Until when it leads unless it renews.';
insert into leader (term, holder, login, leads_until) values (0, '', '', '-infinity');

-- Row-level security. session_user, not current_user: a function of the owner still asks who is calling.
create function my_tenants() returns setof int language sql stable security definer set search_path = nightshift, pg_temp
    as $$ select tenant_id from member where login = session_user $$;
comment on function my_tenants() is 'Tenants of the calling login.';
grant execute on function my_tenants() to nightshift_tenant;

do $$
declare
    t text;
begin
    foreach t in array array['job', 'shard', 'attempt', 'attempt_log', 'item', 'event'] loop
        execute format('alter table %I enable row level security', t);
        execute format('create policy own on %I for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())))', t);
        execute format('grant select on %I to nightshift_tenant', t);
    end loop;
    -- Reached through their parents only.
    foreach t in array array['event_rest', 'member', 'input_chunk', 'destination', 'leader'] loop
        execute format('alter table %I enable row level security', t);
    end loop;
end $$;
alter table tenant enable row level security;
create policy own on tenant for select to nightshift_tenant using (id = any (array(select my_tenants())));
alter table job_cursor enable row level security;
create policy own on job_cursor for select to nightshift_tenant using (exists (select from job where job.id = job_id));
-- Workers serve everybody; their rows name no tenant's data.
alter table worker enable row level security;
create policy everybody on worker for select to nightshift_tenant using (true);
grant select on tenant, job_cursor, worker, fingerprint to nightshift_tenant;

insert into tenant (name) values ('default');
-- Whoever sets the database up may submit at once.
insert into member (login, tenant_id) select session_user, id from tenant where name = 'default';

reset search_path;
reset role;
