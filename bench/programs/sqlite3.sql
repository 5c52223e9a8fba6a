-- sqlite3.sh's work. $rows is set by the caller.
create table item (id integer primary key, name text, size integer, data blob);
insert into item
    with recursive n (i) as (values (1) union all select i + 1 from n where i < $rows)
    select i, printf('%08x', i * 2654435761 % 4294967296), i * 7919 % 10007, zeroblob(i % 97) from n;
create index item_name on item (name);
create index item_size on item (size, name);

create virtual table document using fts5 (body);
insert into document select group_concat(name, ' ') from item group by id / 50;

begin;
update item set name = upper(name) || name, data = null where id % 3 = 0;
delete from item where id % 7 = 0;
commit;

select 'joined', count(*)
    from item a join item b on a.size = b.size and a.id < b.id where a.size % 50 = 0;
select 'ranked', sum(rank * id)
    from (select id, rank() over (partition by size order by name) as rank from item);
select 'json', sum(json_extract(value, '$.size')), max(length(whole))
    from (select json_group_array(json_object('name', name, 'size', size)) as whole
        from item group by id / 1000), json_each(whole);
select 'items', count(*) from item;
