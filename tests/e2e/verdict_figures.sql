-- The figures of the verdict by other means: window functions over the tables, not a walk over the API's answers.
-- The period is from {since} to {until}.
WITH edges AS (SELECT '{since}'::timestamptz AS since, '{until}'::timestamptz AS until),
raw AS (
  SELECT w.name, wb.id, wb.workspace_id, wb.build_number, wb.transition, wb.reason, wb.created_at, wb.deadline,
    wb.job_id, pj.completed_at, pj.error,
    CASE WHEN pj.completed_at IS NULL THEN 'running' WHEN pj.canceled_at IS NOT NULL THEN 'canceled'
         WHEN pj.error <> '' THEN 'failed' ELSE 'succeeded' END AS status
  FROM workspace_builds wb JOIN provisioner_jobs pj ON pj.id = wb.job_id JOIN workspaces w ON w.id = wb.workspace_id),
builds AS (SELECT raw.* FROM raw, edges WHERE created_at >= since),

-- The times at which a workspace's state changed: with the request to start it, with the end of any other build.
changes AS (
  SELECT name, workspace_id, build_number, reason IN ('autostop', 'dormancy') AS automatic,
    CASE WHEN transition = 'start' THEN created_at ELSE completed_at END AS time,
    CASE WHEN status IN ('failed', 'canceled') THEN 'unclear' WHEN transition = 'start' THEN 'running'
         WHEN transition = 'stop' THEN 'parked' ELSE 'gone' END AS state
  FROM raw WHERE transition = 'start' OR completed_at IS NOT NULL),
true_changes AS (
  SELECT * FROM (
    SELECT changes.*, lag(state) OVER (PARTITION BY workspace_id ORDER BY build_number) AS before FROM changes) AS named
  WHERE state IS DISTINCT FROM before),
hours AS (
  SELECT name, workspace_id, state, automatic, extract(epoch FROM greatest(interval '0', least(until,
    lead(time, 1, until) OVER (PARTITION BY workspace_id ORDER BY build_number)) - greatest(time, since))) / 3600 AS h
  FROM true_changes, edges),
limits AS (
  SELECT DISTINCT ON (wb.workspace_id) wb.workspace_id, p.value::float / 1024 AS gib
  FROM workspace_builds wb JOIN workspace_build_parameters p ON p.workspace_build_id = wb.id AND p.name = 'memory_mb'
  WHERE wb.transition = 'start' ORDER BY wb.workspace_id, wb.build_number DESC),

agents AS (
  SELECT raw.id, wa.id AS agent, wa.ready_at FROM raw
  JOIN workspace_resources wr ON wr.job_id = raw.job_id JOIN workspace_agents wa ON wa.resource_id = wr.id),
starts AS (
  SELECT builds.name, builds.created_at, builds.status, extract(epoch FROM max(ready_at) - builds.created_at) AS s
  FROM builds LEFT JOIN agents USING (id) WHERE transition = 'start'
  GROUP BY builds.id, builds.name, builds.created_at, builds.status),

-- A session lasts from a start that did not fail to the next build.
sessions AS (
  SELECT here.*, w.last_used_at, w.ttl * interval '1 microsecond' / 1000 AS ttl,
    t.activity_bump * interval '1 microsecond' / 1000 AS bump,
    here.build_number = max(here.build_number) OVER (PARTITION BY here.workspace_id) AS newest,
    after.created_at AS ended, after.status NOT IN ('succeeded', 'running') AS ended_badly,
    coalesce(after.reason IN ('autostop', 'dormancy'), false) AS ended_by_itself
  FROM raw AS here JOIN workspaces w ON w.id = here.workspace_id JOIN templates t ON t.id = w.template_id
  LEFT JOIN raw AS after ON after.workspace_id = here.workspace_id AND after.build_number = here.build_number + 1
    AND (after.status <> 'running' OR after.transition = 'start')
  WHERE here.transition = 'start' AND here.status IN ('succeeded', 'running')),
own_sessions AS (SELECT sessions.* FROM sessions, edges WHERE coalesce(ended, until) > since),

-- Each report with the number of its run: a new run begins after a rest of more than ten minutes.
reports AS (
  SELECT id, time, state, message, count(*) FILTER (WHERE begins) OVER (PARTITION BY id ORDER BY time) AS run
  FROM (
    SELECT agents.id, s.created_at AS time, s.state, s.message, s.state = 'working' AND (
        lag(s.state) OVER own IS DISTINCT FROM 'working'
        OR s.created_at > lag(s.created_at) OVER own + interval '10 minutes') AS begins
    FROM agents JOIN workspace_app_statuses s ON s.agent_id = agents.agent
    WINDOW own AS (PARTITION BY agents.id ORDER BY s.created_at)) AS marked),
runs AS (
  SELECT id, min(time) AS first, max(time) AS last FROM reports, edges WHERE state = 'working'
  GROUP BY id, run, since HAVING max(time) >= since),
last_reports AS (SELECT DISTINCT ON (id) * FROM reports ORDER BY id, time DESC),
stops AS (
  SELECT own_sessions.*, state = 'working' AND ended - time <= interval '150 seconds' AS working,
    message LIKE '%past the keep-alive limit%' AS past_limit
  FROM own_sessions JOIN last_reports USING (id) WHERE ended IS NOT NULL AND NOT ended_badly),

-- The latest time at which a person or Claude can have been working; null if unknown.
uses AS (
  SELECT own_sessions.*, CASE
    WHEN ended IS NOT NULL AND (ended_badly OR NOT ended_by_itself) THEN ended
    WHEN newest AND last_used_at > '0001-01-01 00:00+00' THEN greatest(last_used_at, worked)
    WHEN deadline > '0001-01-01 00:00+00' THEN greatest(deadline - bump, worked) END AS last_use
  FROM own_sessions
  LEFT JOIN (SELECT id, max(last) AS worked FROM runs GROUP BY 1) AS work USING (id)),
used AS (
  SELECT workspace_id, CASE WHEN bool_and(last_use IS NOT NULL) THEN sum(extract(epoch FROM greatest(interval '0',
    least(last_use, ended, until) - greatest(created_at, since))) / 3600) END AS h
  FROM uses, edges GROUP BY 1)

SELECT json_build_object(
  'workspaces', (SELECT json_object_agg(w.name, json_build_object(
      'running_h', running, 'parked_h', parked, 'unclear_h', unclear, 'autoparked_h', autoparked,
      'used_h', CASE WHEN used.workspace_id IS NULL THEN 0 ELSE used.h END,
      'limit_gib', gib, 'deleted', w.deleted, 'template', coalesce(nullif(t.display_name, ''), t.name),
      'sessions', (SELECT count(*) FROM own_sessions WHERE workspace_id = w.id),
      'autostops', (SELECT count(*) FROM builds WHERE workspace_id = w.id
        AND transition = 'stop' AND status = 'succeeded' AND reason IN ('autostop', 'dormancy')),
      'hand_stops', (SELECT count(*) FROM builds WHERE workspace_id = w.id
        AND transition = 'stop' AND status = 'succeeded' AND reason NOT IN ('autostop', 'dormancy')),
      'building', coalesce((SELECT transition::text FROM raw WHERE workspace_id = w.id AND status = 'running'), '')))
    FROM workspaces w JOIN templates t ON t.id = w.template_id LEFT JOIN limits ON limits.workspace_id = w.id
    LEFT JOIN used ON used.workspace_id = w.id JOIN (
      SELECT workspace_id, coalesce(sum(h) FILTER (WHERE state = 'running'), 0) AS running,
        coalesce(sum(h) FILTER (WHERE state = 'parked'), 0) AS parked,
        coalesce(sum(h) FILTER (WHERE state = 'unclear'), 0) AS unclear,
        coalesce(sum(h) FILTER (WHERE state = 'parked' AND automatic), 0) AS autoparked
      FROM hours GROUP BY 1 HAVING sum(h) > 0) AS sums ON sums.workspace_id = w.id),
  'templates', (SELECT count(*) FROM templates WHERE NOT deleted),
  'builds', (SELECT count(*) FROM builds WHERE status IN ('succeeded', 'failed')),
  'cancelled', (SELECT count(*) FROM builds WHERE status = 'canceled'),
  'failures', (SELECT json_agg(json_build_object('workspace', 'admin/' || name, 'transition', transition,
      'time', created_at) ORDER BY created_at) FROM builds WHERE status = 'failed'),
  'starts', (SELECT json_agg(json_build_object('workspace', 'admin/' || name, 'time', created_at, 'status', status,
      'seconds', CASE WHEN status = 'succeeded' THEN s END)) FROM starts),
  'median_s', (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY s) FROM starts WHERE status = 'succeeded'),
  'runs', (SELECT json_build_object(
      'total', (SELECT count(*) FROM runs),
      'saved', (SELECT count(*) FROM runs JOIN own_sessions USING (id)
        WHERE last > greatest(completed_at + ttl, first + bump) AND ttl > interval '0'),
      'stopped_by_autostop', (SELECT count(*) FROM stops WHERE working AND ended_by_itself),
      'stopped_by_hand', (SELECT count(*) FROM stops WHERE working AND NOT ended_by_itself),
      'stopped_past_limit', (SELECT count(*) FROM stops WHERE past_limit AND ended_by_itself))),
  -- Sessions whose apps belong to a later agent, and that are longer than the time between samples.
  'without_apps', (SELECT json_agg(json_build_object('workspace', workspace_id, 'first', created_at,
      'last', coalesce(ended, until))) FROM own_sessions, edges
    WHERE coalesce(ended, until) - created_at >= interval '16 minutes' AND NOT EXISTS (
      SELECT FROM agents JOIN workspace_apps app ON app.agent_id = agents.agent WHERE agents.id = own_sessions.id)));
