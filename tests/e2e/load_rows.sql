-- The workspaces load-{first} to load-{last} as {rounds} rounds of builds each, twelve hours apart, the newest as now:
-- copies of all rows that the workspace `model` has, under ids of their own.
CREATE FUNCTION pg_temp.id(of uuid, n int, k int) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT md5(of::text || ' ' || n || ' ' || k)::uuid $$;

-- `changes` has an SQL expression for each column that differs, in which t is the row; a column with an expression of ""
-- has its default.
CREATE FUNCTION pg_temp.copy(source text, chosen text, changes jsonb, rounds int DEFAULT {rounds}) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE names text; expressions text;
BEGIN
  SELECT string_agg(quote_ident(column_name), ', '),
    string_agg(coalesce(changes ->> column_name, 't.' || quote_ident(column_name)), ', ') INTO names, expressions
    FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = source AND is_generated = 'NEVER'
      AND coalesce(changes ->> column_name, 'its own') <> '';
  EXECUTE format('INSERT INTO public.%I (%s) SELECT %s FROM public.%I AS t,
    generate_series({first}, {last}) AS n, generate_series(0, %s - 1) AS k WHERE %s',
    source, names, expressions, source, rounds, chosen);
END $$;

CREATE TEMP TABLE model AS SELECT id FROM workspaces WHERE name = 'model' AND NOT deleted;
CREATE TEMP TABLE build AS SELECT b.id, job_id FROM workspace_builds AS b JOIN model ON model.id = workspace_id;
CREATE TEMP TABLE resource AS SELECT r.id FROM workspace_resources AS r JOIN build USING (job_id);
CREATE TEMP TABLE agent AS SELECT a.id FROM workspace_agents AS a JOIN resource ON resource.id = resource_id;

SELECT pg_temp.copy('workspaces', 't.id IN (SELECT id FROM model)', '{{
  "id": "pg_temp.id(t.id, n, 0)", "name": "''load-'' || n", "created_at": "now() - interval ''8 days''"
}}', 1);
SELECT pg_temp.copy('provisioner_jobs', 't.id IN (SELECT job_id FROM build)', '{{
  "id": "pg_temp.id(t.id, n, k)", "created_at": "t.created_at - k * interval ''12 hours''",
  "started_at": "t.started_at - k * interval ''12 hours''", "updated_at": "t.updated_at - k * interval ''12 hours''",
  "completed_at": "t.completed_at - k * interval ''12 hours''",
  "input": "t.input || jsonb_build_object(''workspace_build_id'', pg_temp.id((t.input ->> ''workspace_build_id'')::uuid, n, k))"
}}');
SELECT pg_temp.copy('workspace_builds', 't.id IN (SELECT id FROM build)', '{{
  "id": "pg_temp.id(t.id, n, k)", "workspace_id": "pg_temp.id(t.workspace_id, n, 0)",
  "job_id": "pg_temp.id(t.job_id, n, k)",
  "build_number": "t.build_number + ({rounds} - 1 - k) * (SELECT count(*) FROM build)",
  "created_at": "t.created_at - k * interval ''12 hours''", "updated_at": "t.updated_at - k * interval ''12 hours''",
  "deadline": "CASE WHEN t.deadline > ''1970-01-01'' THEN t.deadline - k * interval ''12 hours'' ELSE t.deadline END"
}}');
SELECT pg_temp.copy('workspace_build_parameters', 't.workspace_build_id IN (SELECT id FROM build)', '{{
  "workspace_build_id": "pg_temp.id(t.workspace_build_id, n, k)"
}}');
SELECT pg_temp.copy('provisioner_job_timings', 't.job_id IN (SELECT job_id FROM build)', '{{
  "job_id": "pg_temp.id(t.job_id, n, k)"
}}');
SELECT pg_temp.copy('provisioner_job_logs', 't.job_id IN (SELECT job_id FROM build)', '{{
  "id": "", "job_id": "pg_temp.id(t.job_id, n, k)"
}}');
SELECT pg_temp.copy('workspace_resources', 't.id IN (SELECT id FROM resource)', '{{
  "id": "pg_temp.id(t.id, n, k)", "job_id": "pg_temp.id(t.job_id, n, k)"
}}');
SELECT pg_temp.copy('workspace_resource_metadata', 't.workspace_resource_id IN (SELECT id FROM resource)', '{{
  "id": "", "workspace_resource_id": "pg_temp.id(t.workspace_resource_id, n, k)"
}}');
SELECT pg_temp.copy('workspace_agents', 't.id IN (SELECT id FROM agent)', '{{
  "id": "pg_temp.id(t.id, n, k)", "resource_id": "pg_temp.id(t.resource_id, n, k)",
  "auth_token": "pg_temp.id(t.auth_token, n, k)", "created_at": "t.created_at - k * interval ''12 hours''",
  "first_connected_at": "t.first_connected_at - k * interval ''12 hours''",
  "last_connected_at": "t.last_connected_at - k * interval ''12 hours''",
  "started_at": "t.started_at - k * interval ''12 hours''", "ready_at": "t.ready_at - k * interval ''12 hours''"
}}');
SELECT pg_temp.copy('workspace_apps', 't.agent_id IN (SELECT id FROM agent)', '{{
  "id": "pg_temp.id(t.id, n, k)", "agent_id": "pg_temp.id(t.agent_id, n, k)"
}}');
SELECT pg_temp.copy('workspace_agent_log_sources', 't.workspace_agent_id IN (SELECT id FROM agent)', '{{
  "id": "pg_temp.id(t.id, n, k)", "workspace_agent_id": "pg_temp.id(t.workspace_agent_id, n, k)"
}}');
SELECT pg_temp.copy('workspace_agent_scripts', 't.workspace_agent_id IN (SELECT id FROM agent)', '{{
  "id": "pg_temp.id(t.id, n, k)", "workspace_agent_id": "pg_temp.id(t.workspace_agent_id, n, k)",
  "log_source_id": "pg_temp.id(t.log_source_id, n, k)"
}}');
SELECT pg_temp.copy('workspace_agent_metadata', 't.workspace_agent_id IN (SELECT id FROM agent)', '{{
  "workspace_agent_id": "pg_temp.id(t.workspace_agent_id, n, k)"
}}');
SELECT pg_temp.copy('workspace_agent_logs', 't.agent_id IN (SELECT id FROM agent)', '{{
  "id": "", "agent_id": "pg_temp.id(t.agent_id, n, k)", "log_source_id": "pg_temp.id(t.log_source_id, n, k)"
}}');
ANALYZE;
