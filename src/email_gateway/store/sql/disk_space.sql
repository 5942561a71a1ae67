-- name: keep_memory_small
-- What is sorted in this transaction goes to a file early.
SET LOCAL work_mem = '64kB'

-- name: write_file
-- Sort half a megabyte of distinct values through a temporary file, which is gone at the end: no row, no dead row and
-- no log entry stays. A disk without room fails it with 53100.
SELECT count(DISTINCT value) FROM (SELECT repeat(md5(number::text), 32) AS value FROM generate_series(1, 512) AS number) AS made
