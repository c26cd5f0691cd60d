UPDATE settings SET value = 'on' WHERE id = 7;
DELETE FROM settings WHERE id IN (8, 9);
