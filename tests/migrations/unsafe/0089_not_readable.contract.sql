SELECT drop_old_partitions();
