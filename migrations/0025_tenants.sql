-- Tenants and logins as their administrator sets and sees them. Like 0010_admin.sql: with the caller's own rights, granted to nobody.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create function set_tenant(name text, settings jsonb default '{}', new boolean default false) returns void
language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    t tenant;
    v_unknown text;
begin
    select string_agg(k, ', ') into v_unknown from jsonb_object_keys(settings) k
        where k not in ('input_prefixes', 'dest_prefixes', 'weight', 'max_leased', 'max_gpu_hours');
    if v_unknown is not null then
        perform refuse(format('a tenant has no setting %s', v_unknown), 'set input_prefixes, dest_prefixes, weight, max_leased, max_gpu_hours');
    elsif settings ? 'weight' and coalesce((settings ->> 'weight')::double precision, 0) <= 0 then
        perform refuse(format('%s is not a weight', settings ->> 'weight'), 'a weight is a number above 0; most tenants have 1');
    elsif (settings ->> 'max_leased')::int < 0 or (settings ->> 'max_gpu_hours')::numeric < 0 then
        perform refuse('a limit is a number of at least 0', 'null lifts it');
    end if;
    select * into t from tenant x where x.name = set_tenant.name;
    if set_tenant.new and t.id is not null then
        perform refuse(format('there is a tenant %s already', set_tenant.name), format('change it: nightshift admin tenant set %s', set_tenant.name));
    elsif not set_tenant.new and t.id is null then
        perform refuse(format('there is no tenant %s', set_tenant.name), code => 'NSNOF');
    elsif set_tenant.new then
        perform create_tenant(set_tenant.name);
        select * into t from tenant x where x.name = set_tenant.name;
    end if;
    if settings ?| array['input_prefixes', 'dest_prefixes'] then
        perform set_prefixes(set_tenant.name,
            case when settings ? 'input_prefixes' then array(select jsonb_array_elements_text(settings -> 'input_prefixes')) else t.input_prefixes end,
            case when settings ? 'dest_prefixes' then array(select jsonb_array_elements_text(settings -> 'dest_prefixes')) else t.dest_prefixes end);
    end if;
    update share s set
        weight = case when settings ? 'weight' then (settings ->> 'weight')::double precision else s.weight end,
        max_leased = case when settings ? 'max_leased' then (settings ->> 'max_leased')::int else s.max_leased end,
        max_gpu_ms = case when settings ? 'max_gpu_hours' then round((settings ->> 'max_gpu_hours')::numeric * 3600000)::bigint else s.max_gpu_ms end
        where s.tenant_id = t.id and settings ?| array['weight', 'max_leased', 'max_gpu_hours'];
end $$;
comment on function set_tenant(text, jsonb, boolean) is
    'Changes the given settings of a tenant (input_prefixes, dest_prefixes, weight, max_leased, max_gpu_hours; null lifts a limit); new makes it first.';

create function check_our_login(login text) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
declare
    v_kind text;
begin
    select substr(g.rolname, 12) into v_kind from pg_auth_members m join pg_roles g on g.oid = m.roleid join pg_roles l on l.oid = m.member
        where l.rolname = login and g.rolname in ('nightshift_tenant', 'nightshift_worker', 'nightshift_scheduler');
    if v_kind is null then
        perform refuse(format('there is no login %s of ours', login), code => 'NSNOF');
    end if;
    return v_kind;
end $$;
comment on function check_our_login(text) is 'Kind of a login that create_login made; an error for any other role.';

create function add_member(login text, tenant text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_id int;
begin
    if check_our_login(add_member.login) <> 'tenant' then
        perform refuse(format('login %s is not one of tenants', add_member.login), 'one login has one kind: create another');
    end if;
    select t.id into v_id from tenant t where t.name = add_member.tenant;
    if v_id is null then
        perform refuse(format('there is no tenant %s', add_member.tenant), code => 'NSNOF');
    end if;
    insert into member (login, tenant_id) values (add_member.login, v_id) on conflict do nothing;
end $$;
comment on function add_member(text, text) is 'Lets an existing login of kind tenant act for one more tenant.';

create function remove_member(login text, tenant text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    delete from member m using tenant t where m.login = remove_member.login and t.id = m.tenant_id and t.name = remove_member.tenant;
    if not found then
        perform refuse(format('login %s is no member of tenant %s', remove_member.login, remove_member.tenant), code => 'NSNOF');
    end if;
end $$;
comment on function remove_member(text, text) is 'The login acts and sees for this tenant no more, from its next statement on.';

create function drop_login(login text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    perform check_our_login(drop_login.login);
    delete from member m where m.login = drop_login.login;
    execute format('drop role %I', drop_login.login);
end $$;
comment on function drop_login(text) is 'Removes a login that create_login made. What it submitted stays; a worker of it is refused from its next call on.';

-- Read the clock, which readers may not.
create function usage_now(usage double precision) returns double precision language sql stable security definer
set search_path = nightshift, pg_temp as $$ select usage / charge_factor(clock()) $$;
comment on function usage_now(double precision) is 'A stored usage as decayed engine seconds.';
create function hours_of_month(month date, ms double precision) returns double precision language sql stable security definer
set search_path = nightshift, pg_temp as $$
    select case when month = date_trunc('month', clock() at time zone 'UTC')::date then ms / 3600000 else 0 end
$$;
comment on function hours_of_month(date, double precision) is 'Engine hours of the current month (UTC).';
grant execute on function usage_now(double precision), hours_of_month(date, double precision) to nightshift_tenant;

create view tenants with (security_invoker = true) as
    select t.name, t.input_prefixes, t.dest_prefixes, s.weight, usage_now(s.usage) as usage_seconds,
        s.max_leased, (select count(*) from shard x where x.tenant_id = t.id and x.state = 'leased') as n_leased,
        s.max_gpu_ms / 3600000.0::double precision as max_gpu_hours, hours_of_month(s.month, s.month_gpu_ms) as month_gpu_hours,
        (select count(*) from job j where j.tenant_id = t.id and j.state in ('ready', 'paused', 'closing', 'cancelling')) as n_active_jobs,
        t.created_at
    from tenant t join share s on s.tenant_id = t.id;
comment on view tenants is 'Your tenants: where their data may lie, their share, limits, and what they use of them.';
grant select on tenants to nightshift_tenant;

create view logins with (security_invoker = true) as
    select l.rolname as login,
        (select substr(g.rolname, 12) from pg_auth_members m join pg_roles g on g.oid = m.roleid
            where m.member = l.oid and g.rolname in ('nightshift_tenant', 'nightshift_worker', 'nightshift_scheduler') limit 1) as kind,
        array(select t.name from member m join tenant t on t.id = m.tenant_id where m.login = l.rolname order by t.name) as tenants
    from pg_roles l
    where l.rolcanlogin and (exists (select from member m where m.login = l.rolname)
        or exists (select from pg_auth_members m join pg_roles g on g.oid = m.roleid
            where m.member = l.oid and g.rolname in ('nightshift_tenant', 'nightshift_worker', 'nightshift_scheduler')));
comment on view logins is 'For administrators: logins of all kinds; kind is null for one that create_login did not make.';

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 25 $$;

reset search_path;
reset role;
