-- SPDX-License-Identifier: MIT
CREATE TABLE numbers (number INTEGER PRIMARY KEY, text TEXT, bytes BLOB);
CREATE INDEX texts ON numbers (text);
WITH RECURSIVE counter (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < 5000)
    INSERT INTO numbers SELECT n, printf('text %d', n * 7919 % 5000), zeroblob(n % 300) FROM counter;
DELETE FROM numbers WHERE number % 3 = 0;
UPDATE numbers SET text = text || ' longer' WHERE number % 2 = 0;
SELECT count(*), sum(length(text)), sum(length(bytes)) FROM numbers;
SELECT length(group_concat(text, ',')) FROM (SELECT text FROM numbers ORDER BY text DESC);
VACUUM;
PRAGMA integrity_check;
