-- A block of feature rows has a column for each feature: as one file instead of two for each column it is inserted with
-- less work, and a merge of blocks still makes parts of files for each column, which are the ones that queries read most.
ALTER TABLE features_data MODIFY SETTING min_bytes_for_wide_part = 268435456;
