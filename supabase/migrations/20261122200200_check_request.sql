-- The Data API runs private.check_request() before each request. Written by hand: a schema diff does not carry settings of roles.
do $$
begin
  alter role authenticator set pgrst.db_pre_request = 'private.check_request';
exception
  when insufficient_privilege then
    raise notice 'The role authenticator may not be changed here: where PostgREST serves this database, set its db-pre-request to private.check_request.';
end
$$;

notify pgrst, 'reload config';
