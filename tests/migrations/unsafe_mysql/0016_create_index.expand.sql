ALTER TABLE notes ADD FULLTEXT INDEX notes_text (body);
