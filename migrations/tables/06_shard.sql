-- Shards, and each lease of one.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- What ties its time stamps to its state is checked by a trigger when the state changes (check_shard); ranges and counts are kept by the functions
-- that write them: Postgres reads and prepares the text of every CHECK anew in each statement, three quarters of the cost of a renewal. Whoever makes
-- a shard holds the cursor of its job, and is the worker: foreign keys would lock both rows once more.
-- Each shard leaves an entry in shard_leased when it ends, and is not looked at again: clean up by the thousand, not by a fifth of all.
create table shard (
    job_id bigint not null,
    shard_no int not null,
    tenant_id int not null,
    kind shard_kind not null,
    state shard_state not null,
    first_item bigint not null,
    end_item bigint not null,
    token bigint not null,
    worker_id bigint,
    leased_until timestamptz,
    ready_at timestamptz,
    finished_at timestamptz,
    lease_ms int not null default 0,
    attempt int not null default 0,
    n_failed_attempts int not null default 0,
    n_lost_attempts int not null default 0,
    n_ok int not null default 0,
    n_failed int not null default 0,
    n_skipped int not null default 0,
    in_flight bigint[] not null default '{}',
    gpu_ms bigint not null default 0,
    charged_ms bigint not null default 0,
    preempt boolean not null default false,
    suspects bigint[],
    primary key (job_id, shard_no)
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
-- leased_until stays out of every index, so that a renewal is a heap-only update.
create index shard_leased on shard (job_id, shard_no) where state = 'leased';
create index shard_waiting on shard (job_id, shard_no) where state = 'waiting';
comment on table shard is 'A range of items that was claimed at least once (shards are carved at claim), or the closing of a job.';
comment on column shard.job_id is 'The job.';
comment on column shard.shard_no is 'Number within the job.';
comment on column shard.tenant_id is 'Tenant of the job.';
comment on column shard.kind is 'items: compute the range. close: write what belongs at the end.';
comment on column shard.state is 'Where it stands; legal_move lists the moves.';
comment on column shard.first_item is 'First item index.';
comment on column shard.end_item is 'One past the last item index.';
comment on column shard.token is 'Fence: every write of a worker must show it.';
comment on column shard.worker_id is 'Who holds it, or held it last.';
comment on column shard.leased_until is 'Until when the lease runs.';
comment on column shard.ready_at is 'When it may be claimed.';
comment on column shard.finished_at is 'When it ended.';
comment on column shard.lease_ms is 'How long each renewal lasts, in milliseconds; chosen at claim.';
comment on column shard.attempt is 'Number of the last attempt; never used twice.';
comment on column shard.n_failed_attempts is 'Attempts of this round that a worker reported as failed.';
comment on column shard.n_lost_attempts is 'Attempts of this round whose lease ran out, except those that are held against suspects.';
comment on column shard.n_ok is 'Its items that are ok.';
comment on column shard.n_failed is 'Its items that failed.';
comment on column shard.n_skipped is 'Its items that were skipped.';
comment on column shard.in_flight is 'Item indices in the engine''s slots at the last progress call.';
comment on column shard.gpu_ms is 'Engine milliseconds of its items so far.';
comment on column shard.charged_ms is 'Engine milliseconds that were charged to the tenant when it was claimed.';
comment on column shard.preempt is 'Its worker is asked to give it back: a job of higher priority waits, or a worker without work could take a part.';
comment on column shard.suspects is 'Items that were in the engine in lost attempts, once for each loss; null: none. Twice: it is to run alone.';
alter table shard enable row level security;
create policy own on shard for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on shard to nightshift_tenant;

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
    constraint attempt_code_fits_outcome check ((code is not null) = (outcome is not null and outcome in ('failed', 'lost'))),
    constraint attempt_end_fits_outcome check ((ended_at is null) = (outcome is null)),
    primary key (job_id, shard_no, attempt)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
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
alter table attempt enable row level security;
create policy own on attempt for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on attempt to nightshift_tenant;

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
alter table attempt_log enable row level security;
create policy own on attempt_log for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on attempt_log to nightshift_tenant;

reset search_path;
reset role;
