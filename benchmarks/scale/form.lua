-- A small urlencoded form, as the widgets send it.
wrk.method = "POST"
wrk.body = "firstName=Jane&lastName=Doe&fromAddress=jane%40customer.test&subject=A+question&text=Where+is+my+parcel%3F+It+was+promised+for+Monday.&userData=order%3D17"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
