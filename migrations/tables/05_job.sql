-- Jobs: their texts, what became of them, what moves while they run, and their input rows.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create table document (
    id int generated always as identity primary key,
    tenant_id int not null references tenant,
    sha256 bytea not null,
    body text not null,
    constraint document_once unique (tenant_id, sha256)
);
comment on table document is
    'Texts that jobs of a tenant share: specs as submitted and as resolved. Never changed; prune takes away what no job has any more.';
comment on column document.id is 'Identity.';
comment on column document.tenant_id is 'Whose it is: tenants share nothing, so that none can ask what another has.';
comment on column document.sha256 is 'sha256 of body in UTF-8, 32 bytes.';
comment on column document.body is 'YAML of a spec as submitted, or JSON of a resolved one.';
alter table document enable row level security;
create policy own on document for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on document to nightshift_tenant;

-- What the plan fills in is null before. Rows of jobs that wait fill their pages; that of a running job moves once, to a page with room.
create table job (
    id bigint generated always as identity primary key,
    tenant_id int not null references tenant,
    state job_state not null default 'submitted',
    held boolean not null default false,
    allow_mixed boolean,
    on_existing on_existing,
    priority int,
    round int not null default 1 constraint job_round_positive check (round >= 1),
    submitted_by text not null,
    submitted_at timestamptz not null default clock(),
    planned_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    run_date date not null,
    run_index bigint not null default 0,
    n_rows bigint constraint job_n_rows_range check (n_rows >= 0),
    n_items bigint constraint job_n_items_range check (n_items >= 0),
    shard_items int constraint job_shard_items_range check (shard_items between 0 and 100000),
    max_attempts int constraint job_max_attempts_range check (max_attempts between 1 and 100),
    max_failed_items bigint constraint job_max_failed_items_range check (max_failed_items >= 0),
    fingerprint_id smallint references fingerprint,
    name text,
    kind text,
    model_key text,
    dest text constraint job_dest_ends_with_slash check (right(dest, 1) = '/'),
    inputs text[],
    labels jsonb,
    idempotency_key text,
    warnings text,
    stopping text,
    errors text,
    worker_labels text[],
    min_memory_bytes bigint,
    max_gpu_ms bigint constraint job_max_gpu_ms_range check (max_gpu_ms >= 0),
    stop_at timestamptz,
    after bigint[],
    time_window jsonb,
    opens_at timestamptz,
    closes_at timestamptz,
    backoff_ms int constraint job_backoff_ms_range check (backoff_ms >= 0),
    max_backoff_ms int,
    jitter boolean,
    not_before timestamptz,
    window_closes_at timestamptz,
    retry_classes text[],
    schedule_id bigint references schedule,
    due timestamptz,
    released boolean not null default true,
    pruned boolean not null default false,
    spec_id int not null,
    resolved_id int,
    submitted_event bigint,
    planned_event bigint,
    owns_dest boolean not null default false,
    constraint job_end_fits_state check ((finished_at is not null)
        = (state in ('rejected', 'cancelled', 'finished', 'finished_with_errors', 'failed'))),
    constraint job_errors_fit_state check ((errors is not null) = (state in ('rejected', 'failed'))),
    constraint job_max_backoff_ms_range check (max_backoff_ms >= backoff_ms),
    constraint job_plan_fits_state check (case when state in ('submitted', 'rejected') then planned_at is null
        when state = 'cancelled' then true else planned_at is not null end),
    -- 'rejected' never had a plan, the working states always have one, 'cancelled' may be either. A rejected job has a name where its spec shows one.
    constraint job_plan_whole check (num_nulls(planned_at, model_key, dest, n_rows, n_items, shard_items, max_attempts,
        resolved_id, allow_mixed, on_existing, priority, inputs, labels, warnings, worker_labels, min_memory_bytes, after, opens_at, closes_at,
        window_closes_at, backoff_ms, max_backoff_ms, jitter) in (0, 23) and (planned_at is null or num_nulls(name, kind) = 0)),
    constraint job_stopping_fits_state check (stopping is null or state in ('cancelling', 'failed'))
) with (fillfactor = 100);
create index job_active on job (id) where state in ('ready', 'paused', 'closing', 'cancelling');
create unique index job_dest on job (dest collate "C") where owns_dest;
create index job_ended on job (finished_at) where finished_at is not null;
-- Where a reader of all events goes on: ids grow about as rows are laid down.
create index job_event on job using brin (submitted_event, planned_event) with (autosummarize = on);
create unique index job_idempotency on job (tenant_id, idempotency_key) where idempotency_key is not null;
create unique index job_run on job (schedule_id, due) where schedule_id is not null;
create index job_submitted on job (id) where state = 'submitted' and released;
create index job_tenant on job (tenant_id, id);
create index job_unreleased on job (schedule_id) where state = 'submitted' and not released;
create index job_windowed on job (id) where time_window is not null and state in ('ready', 'paused');
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
comment on column job.shard_items is 'Items a shard; 0: as many as the worker that claims it does in about a minute (carve_size).';
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
comment on column job.warnings is 'Warnings of the spec, rendered; empty when none.';
comment on column job.stopping is 'Why it is being stopped by itself; null when a user cancelled it.';
comment on column job.errors is 'rejected: the mistakes with carets. failed: why.';
comment on column job.worker_labels is 'Labels "key=value" that a worker must have.';
comment on column job.min_memory_bytes is 'Memory that a worker''s device must have, in bytes.';
comment on column job.max_gpu_ms is 'Engine milliseconds after which the job stops; null: any.';
comment on column job.stop_at is 'When the job stops, finished or not; null: never.';
comment on column job.after is 'Jobs that must have finished before it starts.';
comment on column job.time_window is
    'schedule.window, days and when_window_closes of the spec; the scheduler computes opens_at and closes_at from it.';
comment on column job.opens_at is 'Begin of the current or next window, or not_before. Nothing starts before it, also when no scheduler runs.';
comment on column job.closes_at is
    'From here on nothing starts: window_closes_at, or, when items in hand are to be finished by then, as much earlier as an item takes.';
comment on column job.backoff_ms is 'Pause after the first failed attempt of a shard, in milliseconds; it doubles.';
comment on column job.max_backoff_ms is 'Longest such pause.';
comment on column job.jitter is 'Whether a pause is drawn between nothing and its length.';
comment on column job.not_before is 'Before this nothing starts; null: any time.';
comment on column job.window_closes_at is
    'End of the window that opens_at belongs to; from then on the scheduler computes the next one. -infinity: none was computed yet.';
comment on column job.retry_classes is 'Classes of failed attempts that are tried again (class_of); null: all.';
comment on column job.schedule_id is 'The schedule whose run it is.';
comment on column job.due is 'When the run was due. Each due time has one run: a unique index.';
comment on column job.released is 'False: a run that is not due yet.';
comment on column job.pruned is 'It is being removed: rows of it may be gone already.';
comment on column job.spec_id is 'The spec as submitted: a document.';
comment on column job.resolved_id is 'The spec with all defaults filled in: a document.';
comment on column job.submitted_event is 'Id of the event of its submission, which is this row; null when that event was stored.';
comment on column job.planned_event is 'Id of the event of its planning, which is this row; null when that event was stored.';
comment on column job.owns_dest is 'Whether its destination is its own; jobs that own theirs do not overlap: take_destination.';
alter table job enable row level security;
create policy own on job for select to nightshift_tenant using (not pruned and tenant_id = any (array(select my_tenants())));
grant select on job to nightshift_tenant;

create table job_cursor (
    job_id bigint primary key references job,
    next_item bigint not null default 0,
    next_shard int not null default 0,
    n_ok bigint not null default 0,
    n_failed bigint not null default 0,
    n_skipped bigint not null default 0,
    tenant_id int,
    priority int not null default 0,
    open boolean not null default false,
    limited boolean not null default false,
    started boolean not null default false,
    queued_at timestamptz not null default '-infinity',
    not_before timestamptz not null default '-infinity',
    opens_at timestamptz not null default '-infinity',
    closes_at timestamptz not null default 'infinity',
    n_items bigint not null default 0,
    shard_items int not null default 1,
    round int not null default 1,
    min_memory_bytes bigint not null default 0,
    gpu_ms bigint not null default 0,
    unsettled_ms bigint not null default 0,
    model_key text,
    fingerprint text,
    pins boolean not null default false,
    labels text[] not null default '{}'
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, fillfactor = 95);
-- Among the jobs of one tenant at one priority the primary key has the order that claims ask for too, but with every job that has ended.
-- A sum that only this index knows keeps planners from it, whatever their statistics say.
create index job_cursor_open on job_cursor (priority, tenant_id, (job_id + 0)) where open;
comment on table job_cursor is
    'What moves while a planned job runs. Its row lock is the mutex of the job: whoever claims, ends a shard or changes the state holds it. Before, it is the row of the job.';
comment on column job_cursor.job_id is 'The job.';
comment on column job_cursor.next_item is 'First item that no shard covers yet.';
comment on column job_cursor.next_shard is 'Number of the next shard to carve.';
comment on column job_cursor.n_ok is 'Items ok in shards that have ended; those of open shards are counted there.';
comment on column job_cursor.n_failed is 'Items failed in shards that have ended.';
comment on column job_cursor.n_skipped is 'Items skipped in shards that have ended.';
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
comment on column job_cursor.shard_items is 'Items a shard; 0: decided at each claim (carve_size).';
comment on column job_cursor.round is 'Round of the job.';
comment on column job_cursor.min_memory_bytes is 'Memory a worker must have, in bytes.';
comment on column job_cursor.gpu_ms is 'Engine milliseconds of shards that have ended.';
comment on column job_cursor.unsettled_ms is 'What those took beyond what was charged at claim; the next claim or tick settles it.';
comment on column job_cursor.model_key is 'Model a worker must have.';
comment on column job_cursor.fingerprint is 'Engine it is pinned to; null: any.';
comment on column job_cursor.pins is 'The next claim pins it.';
comment on column job_cursor.labels is 'Labels a worker must have.';
alter table job_cursor enable row level security;
create policy own on job_cursor for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on job_cursor to nightshift_tenant;

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
alter table input_chunk enable row level security;

-- Its lock alone matters: who takes a destination holds it. Nobody but the owner can.
create table destination_turn (
    turn boolean
);
comment on table destination_turn is 'Empty; its lock makes those who take destinations take turns.';
comment on column destination_turn.turn is 'Nothing.';
alter table destination_turn enable row level security;

reset search_path;
reset role;
