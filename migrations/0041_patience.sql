-- What serves everybody does not wait for one tenant's open transaction: a report of a worker and a write of the leader, whose row all
-- others would wait behind, come back with lock_not_available (55P03) after a quarter of a second, and are repeated.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

alter function report(bigint, jsonb, text[], bigint[], int[], bigint[], text[], text[], text[], text[], int[], bigint[], text[], bytea[], bigint[], text[],
    text[], text[], text[], text[], bigint[], bytea[], int[], int[], int[], jsonb[], jsonb[]) set lock_timeout = '250ms';
alter function add_chunk(bigint, bigint, bigint, int, bytea) set lock_timeout = '250ms';
alter function planned(bigint, bigint, jsonb) set lock_timeout = '250ms';
alter function rejected(bigint, bigint, text, text, text) set lock_timeout = '250ms';
alter function recur(bigint, bigint, text, text, text, text) set lock_timeout = '250ms';
alter function advance_schedule(bigint, bigint, bigint, bigint, date) set lock_timeout = '250ms';

-- A partition that somebody reads goes another time: whoever writes an event would wait behind the one who waits to drop it.
create or replace function drop_events(before timestamptz) returns int language plpgsql
set search_path = nightshift, pg_temp set lock_timeout = '250ms' as $$
declare
    v_name name;
    v_n int := 0;
begin
    for v_name in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'event'::regclass
            and substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''(.*)''\)')::timestamptz <= before
        order by c.relname
    loop
        begin
            execute format('drop table %I', v_name);
            v_n := v_n + 1;
        exception when lock_not_available then
            null;
        end;
    end loop;
    return v_n;
end $$;

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 41 $$;

reset search_path;
reset role;
