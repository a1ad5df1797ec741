"""Features of scheduled events and of derivatives: reports of earnings, and option chains."""
