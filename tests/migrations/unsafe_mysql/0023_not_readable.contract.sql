CALL clean_up();
