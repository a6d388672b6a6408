"""Four products: three that a teacher can tell something of, and one that it cannot."""

SHOP = [
    {
        "item_id": "a",
        "title": "Brightline USB C Cable, braided, 2 m",
        "category": "Cables > USB Cables",
        "brand": "Bright",
    },
    {
        "item_id": "b",
        "title": "Hushwell Video Baby Monitor, night vision",
        "category": "Baby > Sleep > Monitors",
    },
    {
        "item_id": "c",
        "title": "Wired Earbuds for running",
        "category": "Earbud Headphones",
        "description": "No battery.",
    },
    {"item_id": "d", "title": "Qwxzt", "category": None},
]
