"""PersonaMem-v2: rows of 27 columns, histories and raw personas as JSON files.

Nothing of a row is lost: what a record has no field for is kept in its labels, word for word, as
`personamem_v2.COLUMN`. `layout` knows the files, `rows` reads rows into questions, `cells` writes them, `histories`
and `personas` do both, `writing` makes the folder.
"""
