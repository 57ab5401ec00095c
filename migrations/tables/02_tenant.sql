-- Tenants, what they may use of the machines, and the logins that act for them.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create table tenant (
    id int generated always as identity primary key,
    name text not null constraint tenant_name_plain check (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$') constraint tenant_name_once unique,
    input_prefixes text[] not null default '{}',
    dest_prefixes text[] not null default '{}',
    created_at timestamptz not null default clock(),
    webhook_prefixes text[] not null default '{}',
    secret_names text[] not null default '{}'
);
comment on table tenant is 'A team. Every job belongs to one.';
comment on column tenant.id is 'Identity.';
comment on column tenant.name is 'Name for people.';
comment on column tenant.input_prefixes is 'URI prefixes that inputs may have; empty allows none, s3:// allows every bucket.';
comment on column tenant.dest_prefixes is 'URI prefixes that destinations may have; empty allows none.';
comment on column tenant.created_at is 'When it was made.';
comment on column tenant.webhook_prefixes is 'URL prefixes that notify may call; empty allows none, https:// allows every host.';
comment on column tenant.secret_names is 'Names of secrets that it may sign with: variables in the environment of the scheduler.';
alter table tenant enable row level security;
create policy own on tenant for select to nightshift_tenant using (id = any (array(select my_tenants())));
grant select on tenant to nightshift_tenant;

-- Its limits are checked by a trigger: Postgres reads and prepares the text of every CHECK anew in each statement, and every claim writes this row.
create table share (
    tenant_id int primary key references tenant,
    weight double precision not null default 1,
    usage double precision not null default 0,
    max_leased int,
    max_gpu_ms bigint,
    month date not null default '-infinity',
    month_gpu_ms double precision not null default 0
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
comment on table share is 'What a tenant has had of the machines, and what it may have. Narrow, because every claim writes it.';
comment on column share.tenant_id is 'The tenant.';
comment on column share.weight is 'Its share relative to the others.';
comment on column share.usage is 'Engine seconds charged, each times charge_factor(when): comparing these compares decayed usage.';
comment on column share.max_leased is 'Hard cap of shards leased at a time; null: none.';
comment on column share.max_gpu_ms is 'Engine milliseconds it may use in a calendar month (UTC); null: any.';
comment on column share.month is 'First day of the month that month_gpu_ms counts.';
comment on column share.month_gpu_ms is 'Engine milliseconds charged in that month.';
alter table share enable row level security;
create policy own on share for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on share to nightshift_tenant;

create table lane (
    priority int not null,
    tenant_id int not null references tenant,
    primary key (priority, tenant_id)
) with (fillfactor = 50);
comment on table lane is 'Priorities at which a tenant has, or lately had, work to claim. A row too many costs a look; tick removes it.';
comment on column lane.priority is 'The priority.';
comment on column lane.tenant_id is 'The tenant.';

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
alter table member enable row level security;

-- Whoever sets the database up may submit at once.
insert into tenant (name) values ('default');
insert into share (tenant_id) select id from tenant;
insert into member (login, tenant_id) select session_user, id from tenant;

reset search_path;
reset role;
