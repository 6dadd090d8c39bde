"""Predictions and their labels meet here, hours or days apart, in any order.

::

    predictions-p ─┐                 ┌─ outcomes: a labelled prediction, or one taken back (+1, −1)
                   ├─ Join ── Store ─┤
    labels-p      ─┘                 └─ fates: what became of every prediction and every label

``rows``       what is kept of a prediction and of a label
``decoding``   the little of a message that the join needs
``matching``   who meets whom: rules on one row, without a store, a clock or an order of arrival
``outcomes``   what comes out, by column
``queues``     when to look at a row again
``state``      what stands beside the rows, and what a store must do
``store``      rows on disk, in one atomic write with the offsets that they come from
``join``       one input partition: events in, outcomes out, one commit
``changelog``  the same rows in a compacted topic, to go on elsewhere
"""
