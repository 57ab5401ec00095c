-- Who is told of what, and the outbox.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create table notify (
    job_id bigint not null references job on delete cascade,
    n int not null,
    tenant_id int not null,
    url text not null,
    events text[] not null,
    secret_name text,
    primary key (job_id, n)
);
comment on table notify is 'The notify entries of planned jobs.';
comment on column notify.job_id is 'The job.';
comment on column notify.n is 'Place in the spec, from 1.';
comment on column notify.tenant_id is 'Tenant of the job.';
comment on column notify.url is 'Where to.';
comment on column notify.events is 'Of what: started, finished, failed, cancelled, budget_80.';
comment on column notify.secret_name is 'Name of the secret that signs; null: unsigned.';
alter table notify enable row level security;
create policy own on notify for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on notify to nightshift_tenant;

create table webhook (
    id bigint generated always as identity primary key,
    event_id uuid not null default gen_random_uuid(),
    job_id bigint not null references job on delete cascade,
    round int not null,
    event text not null,
    n int not null,
    tenant_id int not null,
    attempts int not null default 0,
    last_status int,
    created_at timestamptz not null default clock(),
    due_at timestamptz,
    delivered_at timestamptz,
    failed_at timestamptz,
    url text not null,
    secret_name text,
    body text not null,
    last_error text,
    constraint webhook_end check ((due_at is null) = (num_nonnulls(delivered_at, failed_at) = 1)),
    constraint webhook_once unique (job_id, round, event, n)
) with (fillfactor = 70, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.02);
create index webhook_due on webhook (due_at) where due_at is not null;
comment on table webhook is 'Outbox of notifications: a row is written with what it tells, and delivered at least once.';
comment on column webhook.id is 'Identity.';
comment on column webhook.event_id is 'What the receiver knows it by: the same at every delivery.';
comment on column webhook.job_id is 'The job.';
comment on column webhook.round is 'Round of the job.';
comment on column webhook.event is 'What happened.';
comment on column webhook.n is 'Entry of notify.';
comment on column webhook.tenant_id is 'Tenant of the job.';
comment on column webhook.attempts is 'Deliveries begun.';
comment on column webhook.last_status is 'HTTP status of the last answer.';
comment on column webhook.created_at is 'When it happened.';
comment on column webhook.due_at is 'When to try (again); null when it is over.';
comment on column webhook.delivered_at is 'When the receiver accepted it.';
comment on column webhook.failed_at is 'When it was given up.';
comment on column webhook.url is 'Where to.';
comment on column webhook.secret_name is 'Name of the secret that signs; null: unsigned.';
comment on column webhook.body is 'What is sent, byte for byte the same at every delivery.';
comment on column webhook.last_error is 'Why the last delivery did not work.';
alter table webhook enable row level security;
create policy own on webhook for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on webhook to nightshift_tenant;

reset search_path;
reset role;
