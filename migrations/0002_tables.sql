-- Tables. Every column says its meaning and unit; named CHECKs tie time stamps to states.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create table tenant (
    id int generated always as identity primary key,
    name text not null constraint tenant_name_once unique
        constraint tenant_name_plain check (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
    input_prefixes text[] not null default '{}',
    dest_prefixes text[] not null default '{}',
    created_at timestamptz not null default clock()
);
comment on table tenant is 'A team. Every job belongs to one.';
comment on column tenant.id is 'Identity.';
comment on column tenant.name is 'Name for people.';
comment on column tenant.input_prefixes is 'URI prefixes that inputs may have; empty allows none, s3:// allows every bucket.';
comment on column tenant.dest_prefixes is 'URI prefixes that destinations may have; empty allows none.';
comment on column tenant.created_at is 'When it was made.';

create table member (
    login name not null,
    tenant_id int not null references tenant,
    created_at timestamptz not null default clock(),
    primary key (login, tenant_id)
);
comment on table member is 'Which logins act for which tenants.';
comment on column member.login is 'session_user of the login.';
comment on column member.tenant_id is 'The tenant.';
comment on column member.created_at is 'When it was made.';

create table fingerprint (
    id smallint generated always as identity primary key,
    sha256 text not null constraint fingerprint_once unique
);
comment on table fingerprint is 'Engine fingerprints, so that an item row holds two bytes instead of sixty-four.';
comment on column fingerprint.id is 'Identity.';
comment on column fingerprint.sha256 is 'The fingerprint as the engine reports it, hex.';

create table worker (
    id bigint generated always as identity primary key,
    login name not null,
    name text not null,
    protocol int not null,
    schema int not null,
    models jsonb not null constraint worker_models_object check (jsonb_typeof(models) = 'object'),
    info jsonb not null default '{}',
    health jsonb not null default '{}',
    drain boolean not null default false,
    registered_at timestamptz not null default clock(),
    seen_at timestamptz not null default clock()
) with (fillfactor = 50);
comment on table worker is 'One registration of a worker process. A restarted process is a new row.';
comment on column worker.id is 'Identity.';
comment on column worker.login is 'session_user that registered it; only this login may use the id.';
comment on column worker.name is 'Name for people.';
comment on column worker.protocol is 'Protocol it speaks.';
comment on column worker.schema is 'Newest migration its program knows.';
comment on column worker.models is 'Model key "name/weights/kv_cache" to engine fingerprint.';
comment on column worker.info is 'What it said about itself at registration.';
comment on column worker.health is 'What it said with its last progress call.';
comment on column worker.drain is 'Claims nothing new; finishes what is in its slots and gives the rest back.';
comment on column worker.registered_at is 'When it registered.';
comment on column worker.seen_at is 'When it was last heard; exact to a second.';

create table job (
    id bigint generated always as identity primary key,
    tenant_id int not null references tenant,
    state job_state not null default 'submitted',
    held boolean not null default false,
    allow_mixed boolean not null default false,
    on_existing on_existing not null default 'refuse',
    priority int not null default 0,
    round int not null default 1 constraint job_round_positive check (round >= 1),
    submitted_by name not null,
    submitted_at timestamptz not null default clock(),
    planned_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    run_date date not null,
    run_index bigint not null default 0,
    n_rows bigint constraint job_n_rows_range check (n_rows >= 0),
    n_items bigint constraint job_n_items_range check (n_items >= 0),
    shard_items int constraint job_shard_items_range check (shard_items between 1 and 100000),
    max_attempts int constraint job_max_attempts_range check (max_attempts between 1 and 100),
    max_failed_items bigint constraint job_max_failed_items_range check (max_failed_items >= 0),
    fingerprint_id smallint references fingerprint,
    name text,
    kind text,
    model_key text,
    dest text constraint job_dest_ends_with_slash check (right(dest, 1) = '/'),
    inputs text[] not null default '{}',
    labels jsonb not null default '{}',
    idempotency_key text,
    spec_sha256 bytea not null,
    spec_text text not null constraint job_spec_at_most_1_mib check (octet_length(spec_text) <= 1048576),
    resolved jsonb,
    warnings text not null default '',
    stopping text,
    errors text,
    -- 'rejected' never had a plan, the working states always have one, 'cancelled' may be either.
    constraint job_plan_whole check (num_nulls(planned_at, name, kind, model_key, dest, n_rows, n_items, shard_items, max_attempts, resolved) in (0, 10)),
    constraint job_plan_fits_state check (case when state in ('submitted', 'rejected') then planned_at is null
        when state = 'cancelled' then true else planned_at is not null end),
    constraint job_end_fits_state check ((finished_at is not null)
        = (state in ('rejected', 'cancelled', 'finished', 'finished_with_errors', 'failed'))),
    constraint job_errors_fit_state check ((errors is not null) = (state in ('rejected', 'failed'))),
    constraint job_stopping_fits_state check (stopping is null or state in ('cancelling', 'failed'))
) with (fillfactor = 70);
create unique index job_idempotency on job (tenant_id, idempotency_key) where idempotency_key is not null;
create index job_submitted on job (id) where state = 'submitted';
create index job_claimable on job (priority desc, id) where state in ('ready', 'closing') and not held;
create index job_active on job (id) where state in ('ready', 'paused', 'closing', 'cancelling');
create index job_tenant on job (tenant_id, id);
create trigger job_check_move before update of state on job for each row
    when (old.state is distinct from new.state) execute function check_move('job');
comment on table job is 'A stored spec and what became of it. Holds no counters: claims and ticks must not meet on this row.';
comment on column job.id is 'Identity.';
comment on column job.tenant_id is 'Whose it is.';
comment on column job.state is 'Where it stands; legal_move lists the moves.';
comment on column job.held is 'Nobody may claim from it; running shards go on.';
comment on column job.allow_mixed is 'Workers of different fingerprints may share it.';
comment on column job.on_existing is 'What to do when the destination was used by another job.';
comment on column job.priority is 'Higher goes first.';
comment on column job.round is '1, and one more after each retry.';
comment on column job.submitted_by is 'session_user of the submission.';
comment on column job.submitted_at is 'When it was submitted.';
comment on column job.planned_at is 'When its plan was stored.';
comment on column job.started_at is 'When its first shard was claimed.';
comment on column job.finished_at is 'When it reached a final state.';
comment on column job.run_date is 'Template variable run.date: UTC day of the submission.';
comment on column job.run_index is 'Template variable run.index: number of the run of a recurring job, else 0.';
comment on column job.n_rows is 'Number of input rows.';
comment on column job.n_items is 'Number of items.';
comment on column job.shard_items is 'Items a shard.';
comment on column job.max_attempts is 'How many failed attempts, and apart from it how many lost ones, a shard may have in a round.';
comment on column job.max_failed_items is 'More failed items than this stop the job; null: never.';
comment on column job.fingerprint_id is 'Engine it is pinned to since its first claim; null with allow_mixed.';
comment on column job.name is 'metadata.name of the spec.';
comment on column job.kind is 'Kind of the spec.';
comment on column job.model_key is 'Model key "name/weights/kv_cache" a worker must have.';
comment on column job.dest is 'Rendered destination with trailing slash.';
comment on column job.inputs is 'URIs and prefixes it reads inputs from.';
comment on column job.labels is 'metadata.labels of the spec.';
comment on column job.idempotency_key is 'A second submission with this key returns this job.';
comment on column job.spec_sha256 is 'sha256 of spec_text, 32 bytes.';
comment on column job.spec_text is 'The spec as submitted.';
comment on column job.resolved is 'The spec with all defaults filled in.';
comment on column job.warnings is 'Warnings of the spec, rendered; empty when none.';
comment on column job.stopping is 'Why it is being stopped by itself; null when a user cancelled it.';
comment on column job.errors is 'rejected: the mistakes with carets. failed: why.';

create table job_cursor (
    job_id bigint primary key references job,
    next_item bigint not null default 0,
    next_shard int not null default 0,
    n_ok bigint not null default 0,
    n_failed bigint not null default 0,
    n_skipped bigint not null default 0,
    constraint job_cursor_range check (next_item >= 0 and next_shard >= 0 and n_ok >= 0 and n_failed >= 0 and n_skipped >= 0)
) with (fillfactor = 50);
comment on table job_cursor is 'What moves while a job runs. Its row lock is the mutex of the job: whoever claims, ends a shard or changes the state holds it.';
comment on column job_cursor.job_id is 'The job.';
comment on column job_cursor.next_item is 'First item that no shard covers yet.';
comment on column job_cursor.next_shard is 'Number of the next shard to carve.';
comment on column job_cursor.n_ok is 'Items ok in shards that have ended; those of open shards are counted there.';
comment on column job_cursor.n_failed is 'Items failed in shards that have ended.';
comment on column job_cursor.n_skipped is 'Items skipped in shards that have ended.';

create table destination (
    dest text collate "C" primary key,
    job_id bigint not null references job
);
create index destination_job on destination (job_id);
comment on table destination is 'Which job owns which destination. No owned destination contains another.';
comment on column destination.dest is 'Destination with trailing slash.';
comment on column destination.job_id is 'The owner.';

create table input_chunk (
    job_id bigint not null references job,
    first_row bigint not null constraint input_chunk_first_row_range check (first_row >= 0),
    n_rows int not null constraint input_chunk_n_rows_range check (n_rows between 1 and 1000),
    data bytea not null,
    primary key (job_id, first_row)
);
alter table input_chunk alter column data set storage external; -- it is compressed already
comment on table input_chunk is 'Snapshot of a job''s input rows.';
comment on column input_chunk.job_id is 'The job.';
comment on column input_chunk.first_row is 'Index of its first row.';
comment on column input_chunk.n_rows is 'Number of rows.';
comment on column input_chunk.data is 'gzip of JSON lines, one input row a line.';

create table shard (
    job_id bigint not null references job,
    shard_no int not null,
    tenant_id int not null,
    kind shard_kind not null,
    state shard_state not null,
    first_item bigint not null,
    end_item bigint not null,
    token bigint not null,
    worker_id bigint references worker,
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
    primary key (job_id, shard_no),
    constraint shard_range check (first_item >= 0 and end_item >= first_item),
    constraint shard_counts check (n_ok >= 0 and n_failed >= 0 and n_skipped >= 0
        and (kind <> 'items' or n_ok + n_failed + n_skipped <= end_item - first_item)),
    constraint shard_wait_fits_state check ((ready_at is not null) = (state = 'waiting')),
    constraint shard_lease_fits_state check ((leased_until is not null) = (state = 'leased')),
    constraint shard_holder_fits_state check (state <> 'leased' or (worker_id is not null and lease_ms > 0 and attempt > 0)),
    constraint shard_end_fits_state check ((finished_at is not null) = (state in ('finished', 'dead', 'cancelled')))
) with (fillfactor = 60);
create index shard_waiting on shard (job_id, shard_no) where state = 'waiting';
-- leased_until stays out of every index, so that a renewal is a heap-only update.
create index shard_leased on shard (job_id, shard_no) where state = 'leased';
create trigger shard_check_move before update of state on shard for each row
    when (old.state is distinct from new.state) execute function check_move('shard');
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
comment on column shard.n_lost_attempts is 'Attempts of this round whose lease ran out.';
comment on column shard.n_ok is 'Its items that are ok.';
comment on column shard.n_failed is 'Its items that failed.';
comment on column shard.n_skipped is 'Its items that were skipped.';
comment on column shard.in_flight is 'Item indices in the engine''s slots at the last progress call.';

reset search_path;
reset role;
