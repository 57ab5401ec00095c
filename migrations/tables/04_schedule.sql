-- Recurring jobs.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create table schedule (
    id bigint generated always as identity primary key,
    tenant_id int not null references tenant,
    name text not null,
    state text not null default 'active' constraint schedule_state_known check (state in ('active', 'paused', 'removed')),
    cron text not null,
    when_still_running text not null constraint schedule_rule_known check (when_still_running in ('wait', 'skip', 'overlap')),
    submitted_by name not null,
    spec_sha256 bytea not null,
    spec_text text not null,
    next_due timestamptz,
    n_runs bigint not null default 1,
    created_at timestamptz not null default clock(),
    kind text
);
create index schedule_active on schedule (next_due nulls first) where state = 'active';
comment on table schedule is 'A recurring job. Its runs are jobs.';
comment on column schedule.id is 'Identity.';
comment on column schedule.tenant_id is 'Whose it is.';
comment on column schedule.name is 'metadata.name of the spec.';
comment on column schedule.state is 'active; paused: no run starts; removed: nor will any.';
comment on column schedule.cron is 'Five fields and a time zone; the scheduler reads them.';
comment on column schedule.when_still_running is 'What becomes of a run that is due while an earlier one is not over: wait, skip, overlap.';
comment on column schedule.submitted_by is 'session_user of the submission.';
comment on column schedule.spec_sha256 is 'sha256 of spec_text in UTF-8.';
comment on column schedule.spec_text is 'The spec of every run.';
comment on column schedule.next_due is 'When the run that waits is due; null: the scheduler has not computed it.';
comment on column schedule.n_runs is 'Number of the run that waits.';
comment on column schedule.created_at is 'When it was made.';
comment on column schedule.kind is 'Kind of the spec; null: the schedule was made before this was kept.';
alter table schedule enable row level security;
create policy own on schedule for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on schedule to nightshift_tenant;

reset search_path;
reset role;
