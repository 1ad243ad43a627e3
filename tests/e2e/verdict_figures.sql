-- The figures of the verdict anew and by other means: window functions over the tables, not a walk over the API's
-- answers. The period is from {since} to {until}.
WITH edges AS (SELECT '{since}'::timestamptz AS since, '{until}'::timestamptz AS until),
raw AS (
  SELECT w.name, wb.id, wb.workspace_id, wb.transition, wb.reason, wb.created_at, wb.job_id, pj.completed_at,
    pj.job_status AS status, lead(wb.created_at) OVER own AS next_created,
    lead(pj.completed_at) OVER own AS next_completed, lead(wb.transition) OVER own AS next_transition
  FROM workspace_builds wb JOIN provisioner_jobs pj ON pj.id = wb.job_id JOIN workspaces w ON w.id = wb.workspace_id
  WINDOW own AS (PARTITION BY wb.workspace_id ORDER BY wb.build_number)),
states AS (
  SELECT raw.*,
    CASE WHEN status = 'succeeded' AND transition = 'start' THEN 'running'
         WHEN status = 'succeeded' AND transition = 'stop' THEN 'parked'
         WHEN status = 'succeeded' THEN 'gone' ELSE 'unclear' END AS state,
    CASE WHEN status = 'succeeded' AND transition = 'stop' THEN completed_at ELSE created_at END AS begins,
    -- What is stopped or deleted is held until that is done.
    CASE WHEN next_transition IN ('stop', 'delete') AND NOT (status = 'succeeded' AND transition = 'stop')
         THEN next_completed ELSE next_created END AS ends
  FROM raw),
hours AS (
  SELECT name, workspace_id, state, reason, extract(epoch FROM greatest(interval '0',
    least(coalesce(ends, until), until) - greatest(begins, since))) / 3600 AS h FROM states, edges),
limits AS (
  SELECT DISTINCT ON (wb.workspace_id) wb.workspace_id, p.value::float / 1024 AS gib
  FROM workspace_builds wb JOIN workspace_build_parameters p ON p.workspace_build_id = wb.id AND p.name = 'memory_mb'
  WHERE wb.transition = 'start' ORDER BY wb.workspace_id, wb.build_number DESC),
ready AS (
  SELECT extract(epoch FROM max(wa.ready_at) - raw.created_at) AS s FROM edges, raw
  JOIN workspace_resources wr ON wr.job_id = raw.job_id JOIN workspace_agents wa ON wa.resource_id = wr.id
  WHERE raw.created_at >= since AND raw.status = 'succeeded' GROUP BY raw.id, raw.created_at),
builds AS (SELECT raw.* FROM raw, edges WHERE created_at >= since)
SELECT json_build_object(
  'running', (SELECT json_object_agg(name, h)
    FROM (SELECT name, sum(h) AS h FROM hours WHERE state = 'running' GROUP BY 1) AS own),
  'parked', (SELECT json_object_agg(name, h)
    FROM (SELECT name, sum(h) AS h FROM hours WHERE state = 'parked' GROUP BY 1) AS own),
  'unclear', (SELECT json_object_agg(name, h)
    FROM (SELECT name, sum(h) AS h FROM hours WHERE state = 'unclear' GROUP BY 1) AS own),
  'autoparked_gib_h', (SELECT sum(h * gib) FROM hours JOIN limits USING (workspace_id)
    WHERE state = 'parked' AND reason = 'autostop'),
  'given_back_gib_h', (SELECT sum(h * gib) FROM hours JOIN limits USING (workspace_id) WHERE state = 'parked'),
  'held_gib_h', (SELECT sum(h * gib) FROM hours JOIN limits USING (workspace_id) WHERE state IN ('running', 'unclear')),
  'sessions', (SELECT count(*) FROM states, edges WHERE state = 'running' AND coalesce(ends, until) > since
    AND (created_at >= since OR coalesce(next_created, until) > since)),
  'autostops', (SELECT count(*) FROM builds WHERE transition='stop' AND status='succeeded' AND reason='autostop'),
  'hand_stops', (SELECT count(*) FROM builds WHERE transition='stop' AND status='succeeded' AND reason<>'autostop'),
  'builds', (SELECT count(*) FROM builds WHERE status IN ('succeeded', 'failed')),
  'failed', (SELECT count(*) FROM builds WHERE status = 'failed'),
  'median_s', (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY s) FROM ready),
  'worst_s', (SELECT max(s) FROM ready),
  'reports', (SELECT count(DISTINCT (agent_id)) FROM workspace_app_statuses, edges
    WHERE state = 'working' AND created_at >= since),
  'stopped_working', (SELECT json_object_agg(reason, n) FROM (SELECT b.reason, count(*) n FROM builds b
    WHERE b.transition = 'stop' AND EXISTS (SELECT FROM workspace_app_statuses s WHERE s.workspace_id = b.workspace_id
      AND s.state = 'working' AND s.created_at BETWEEN b.created_at - interval '150 seconds' AND b.created_at)
    GROUP BY 1) x));
