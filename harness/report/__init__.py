"""What a run found, for people and for machines: pictures, the HTML report, JUnit XML and run.json.

Owns how things look. Refuses to judge: every verdict in a report was reached elsewhere and is in the RunRecord.
"""
