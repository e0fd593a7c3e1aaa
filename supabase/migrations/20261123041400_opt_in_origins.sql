-- Where somebody agreed moves out of what the Data API shows, with what is there already. By hand: a schema difference carries no rows,
-- and drops the columns first.
set local lock_timeout = '5s';
set local statement_timeout = '5min';

create table private.opt_in_origins (
  tenant_id uuid not null,
  opt_in_id uuid not null,
  ip inet,
  user_agent text,
  primary key (tenant_id, opt_in_id),
  constraint opt_in_origins_opt_in_fkey foreign key (tenant_id, opt_in_id) references public.opt_ins (tenant_id, id) on delete cascade,
  constraint user_agent_is_short check (char_length(user_agent) <= 500)
);

alter table private.opt_in_origins enable row level security;

insert into private.opt_in_origins (tenant_id, opt_in_id, ip, user_agent)
select o.tenant_id, o.id, o.ip, o.user_agent from public.opt_ins o where num_nonnulls(o.ip, o.user_agent) > 0;

-- What a client loses is what it must not see.
-- squawk-ignore ban-drop-column
alter table public.opt_ins drop column ip;
-- squawk-ignore ban-drop-column
alter table public.opt_ins drop column user_agent;
