-- postgresql.t's queries: results and checksums. rows is set by the caller.
create table item as
    select i as id, md5(i::text) as name, i * 7919 % 10007 as size, i % 97 as kind,
        jsonb_build_object('id', i, 'tags', jsonb_build_array(i % 3, i % 5, md5((i % 1000)::text))) as data
    from generate_series(1, :rows) as i;
create index on item (name);
create index on item using gin (data);
analyze item;

set max_parallel_workers_per_gather = 2;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set min_parallel_table_scan_size = 0;

select 'parallel', count(*), sum(size), count(distinct kind) from item;
select 'sort', md5(string_agg(name, ','))
    from (select name from item order by name desc limit 50000) as sorted;
select 'join', count(*), sum(a.id)
    from item a join item b on a.size = b.size and a.id < b.id where a.kind < 20;
select 'window', sum(place * id)
    from (select id, rank() over (partition by kind order by size, name) as place from item) as ranked;
select 'json', count(*), sum(length(value ->> 2))
    from item, jsonb_path_query(data, '$.tags') as value;
select 'contains', count(*) from item where data @> '{"tags": [2, 4]}';
select 'aggregate', md5(jsonb_agg(data order by id)::text) from item where id <= 50000;
select 'regexp', count(*), sum(length(regexp_replace(name, '[a-f]([0-9]+)', '<\1>', 'g')))
    from item where name ~ '^(ab|cd)+';

create function walk(depth int) returns text language plpgsql as $$
declare
    path text[] := '{}';
begin
    for i in 1..depth loop
        path := path || md5(array_to_string(path[greatest(1, i - 20):], '/'));
        begin
            if i % 10 = 0 then
                raise exception 'step %', i;
            end if;
        exception when raise_exception then
            path := path || sqlerrm;
        end;
    end loop;
    return md5(array_to_string(path, ','));
end $$;
select 'function', walk(3000);

-- How large this backend became: for the caller, who cannot ask once it is gone.
select pg_backend_pid() as pid \gset
\setenv BACKEND :pid
\! cp /proc/$BACKEND/status status
