"""Opens a downloaded dataset the way its users do and prints what it found as one JSON line.

usage: read.py FOLDER    (the destination of a finished job, copied as it is)
"""

import json
import pathlib
import sys

import datasets
import pyarrow.parquet
from PIL import Image

folder = pathlib.Path(sys.argv[1])
table = pyarrow.parquet.read_table(folder / "metadata.parquet")
rows = table.to_pylist()

pixels = 0
for row in rows:
    with Image.open(folder / row["file_name"]) as picture:
        picture.load()
        pixels += picture.width * picture.height

datasets.disable_progress_bars()
dataset = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(folder.parent / "cache"))
first = dataset[0]
print(
    json.dumps(
        {
            "rows": len(rows),
            "columns": table.column_names,
            "pixels": pixels,
            "dataset_rows": len(dataset),
            "dataset_columns": dataset.column_names,
            "first_image_size": list(first["image"].size),
            "first_text": first["text"],
        }
    )
)
